{# Fails where two relations differ in their number of rows. #}
{% test row_counts_match(model, compare_model) %}
select
    one.row_count,
    other.row_count as other_row_count
from (select count(*) as row_count from {{ model }}) as one
cross join (select count(*) as row_count from {{ compare_model }}) as other
where one.row_count != other.row_count
{% endtest %}
