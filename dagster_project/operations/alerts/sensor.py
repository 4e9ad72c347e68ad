"""The sensor that watches: finds what is wrong every half minute, and has it told. Without a sink it does nothing."""

# No postponed annotations here: Dagster reads those of a sensor's function as they are.
import dagster as dg

NAME = "alerts"
EVERY_SECONDS = 30


def alerts() -> dg.SensorDefinition:
    """Make the sensor."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells BINDERY_ALERT_URLS of failed runs, late data, failing sensors or schedules, refused rows.",
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from dagster_project.settings import get_settings

        settings = get_settings()
        if settings.alert_urls is None:
            return dg.SkipReason("BINDERY_ALERT_URLS names no sink")
        from dagster_project.operations.alerts.watch import look

        told, cursor = look(context, settings)
        context.update_cursor(cursor)
        return dg.SkipReason(told)

    return watch
