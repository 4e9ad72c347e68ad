{# A text key from several columns: the same everywhere and for ever. NULL and '' stay apart, and so do (a|b, c) and (a, b|c). #}
{% macro surrogate_key(expressions) -%}
    md5(jsonb_build_array({{ expressions | join(", ") }})::text)
{%- endmacro %}
