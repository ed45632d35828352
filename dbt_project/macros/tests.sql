{# Generic tests of what a run wrote: they look at the run's own landing days or Mondays and cost no more as history
   grows. Older rows were tested by the run that wrote them. #}

{% macro in_run(model) -%}
    {{ in_as_of_range() if model.schema and model.schema.endswith('feature_models') else in_landed_range() }}
{%- endmacro %}

{% test unique_in_run(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where {{ in_run(model) }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}

{% test true_in_run(model, expression) %}
    select *
    from {{ model }}
    where {{ in_run(model) }} and not coalesce({{ expression }}, false)
{% endtest %}
