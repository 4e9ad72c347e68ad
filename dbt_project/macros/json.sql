{# A JSON list's elements, or none where the value is NULL or something else than a list. #}
{% macro elements_of(expression) -%}
    jsonb_array_elements(case when jsonb_typeof({{ expression }}) = 'array' then {{ expression }} else '[]'::jsonb end)
{%- endmacro %}


{# A year as integer, also where the source writes it as text; NULL for anything else. #}
{% macro year_of(expression) -%}
    case when {{ expression }} ~ '^-?[0-9]{1,4}$' then ({{ expression }})::integer end
{%- endmacro %}
