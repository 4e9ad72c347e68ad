# Size minimal: the platform sleeps (no task at all) and is woken by the clock and by uploads. It goes to sleep by
# itself: the container `rest` looks whether anything is left to do (dagster_project/operations/deploy/rest.py).

locals {
  service_arn = "arn:${local.partition}:ecs:${var.region}:${local.account}:service/${var.project}/${var.project}-platform"
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Wake"
    actions   = ["ecs:UpdateService"]
    resources = [local.service_arn]
  }
}

resource "aws_iam_role" "scheduler" {
  count              = local.together ? 1 : 0
  name               = "${var.project}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
}

resource "aws_iam_role_policy" "scheduler" {
  count  = local.together ? 1 : 0
  name   = "wake"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler.json
}

resource "aws_scheduler_schedule" "wake" {
  count                        = local.together ? 1 : 0
  name                         = "${var.project}-wake"
  description                  = "Wakes the platform, which launches what is due: schedules, uploads, jobs to relaunch"
  schedule_expression          = var.wake_schedule
  schedule_expression_timezone = "UTC"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:${local.partition}:scheduler:::aws-sdk:ecs:updateService"
    role_arn = aws_iam_role.scheduler[0].arn
    input    = jsonencode({ Cluster = var.project, Service = "${var.project}-platform", DesiredCount = 1 })

    retry_policy {
      maximum_retry_attempts       = 10
      maximum_event_age_in_seconds = 3600
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}

resource "aws_appautoscaling_target" "platform" {
  count              = local.together ? 1 : 0
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this["platform"].name}"
  min_capacity       = 0
  max_capacity       = 1
}

resource "aws_appautoscaling_policy" "wake" {
  count              = local.together ? 1 : 0
  name               = "${var.project}-wake-for-uploads"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.platform[0].service_namespace
  scalable_dimension = aws_appautoscaling_target.platform[0].scalable_dimension
  resource_id        = aws_appautoscaling_target.platform[0].resource_id

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 1
    }
  }
}

# Not trouble: uploads that wait are what wakes the platform.
resource "aws_cloudwatch_metric_alarm" "uploads_wait" {
  count               = local.together ? 1 : 0
  alarm_name          = "${var.project}-uploads-wait"
  alarm_description   = "Uploads wait: the platform is woken"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.uploads.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.wake[0].arn]
}
