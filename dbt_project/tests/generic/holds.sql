{# Fails for rows of which an expression isn't true; unknown (NULL) fails too. #}
{% test holds(model, expression) %}
select *
from {{ model }}
where ({{ expression }}) is not true
{% endtest %}
