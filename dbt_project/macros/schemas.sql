{#
    Schemas carry their bare names: environments differ by database, never by a prefix. They are made, and owned by
    dbt's role, when the database is set up; that role may not create schemas.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}


{% macro postgres__create_schema(relation) -%}
    {{ exceptions.raise_compiler_error(
        "schema " ~ relation.schema ~ " is missing in database " ~ relation.database
        ~ ": `bindery db start` (or the deployment's migration step) makes the schemas; dbt's role may not"
    ) }}
{%- endmacro %}
