{# The engine's log of loads: bookkeeping, not data, so it is no dbt source and stays out of the lineage graph. #}
{% macro load_times() -%}
    bindery.load_times
{%- endmacro %}


{# Answers freshness: when the last load of a source committed. A source that never loaded is as old as can be. #}
{% macro last_load_of(source_name) -%}
    select coalesce(max(finished_at), timestamptz '1970-01-01 00:00:00+00')
    from {{ load_times() }}
    where source = '{{ source_name }}'
{%- endmacro %}


{# Snapshots close rows with this. dbt's own drops the zone; ours keeps it, so that history is timestamptz throughout. #}
{% macro postgres__snapshot_get_time() -%}
    now()
{%- endmacro %}
