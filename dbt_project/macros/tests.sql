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

{# The shopping days that this run touched, as the deltas add up to them, are the newest versions of their lines. #}
{% test deltas_telescope(model) %}
    with touched as (
        select distinct household_id, event_date from {{ model }} where {{ in_landed_range() }}
    ),

    summed as (
        select deltas.household_id, deltas.event_date,
            sum(deltas.lines_delta) as lines, sum(deltas.spend_cents_delta) as spend_cents
        from {{ model }} as deltas
        inner join touched on deltas.household_id = touched.household_id and deltas.event_date = touched.event_date
        where deltas.landed_on <= {{ day('landed_to') }}
        group by deltas.household_id, deltas.event_date
    ),

    newest as (
        select household_id, event_date, sales_cents, is_withdrawn, is_merchandise
        from {{ ref('stg_transactions') }}
        where landed_on >= (select min(event_date) from touched) and landed_on <= {{ day('landed_to') }}
        qualify row_number() over (partition by household_id, basket_id, product_id order by landed_on desc) = 1
    ),

    known as (
        select household_id, event_date, count(*) as lines, sum(sales_cents) as spend_cents
        from newest
        where is_merchandise and not is_withdrawn
        group by household_id, event_date
    )

    select summed.household_id, summed.event_date, summed.lines, known.lines as known_lines
    from summed
    left join known on summed.household_id = known.household_id and summed.event_date = known.event_date
    where summed.lines <> coalesce(known.lines, 0) or summed.spend_cents <> coalesce(known.spend_cents, 0)
{% endtest %}

{# Two ways to count: the rows of a Monday, and the categories its households bought. Neither knows of the other. #}
{% test one_row_for_each_category_bought(model) %}
    with counted as (
        select as_of, count(*) as category_rows from {{ model }} where {{ in_as_of_range() }} group by as_of
    ),

    stated as (
        select as_of, sum(categories_84d) as categories
        from {{ ref('household_features') }}
        where {{ in_as_of_range() }}
        group by as_of
    )

    select stated.as_of, stated.categories, counted.category_rows
    from stated
    left join counted on stated.as_of = counted.as_of
    where stated.categories <> coalesce(counted.category_rows, 0)
{% endtest %}
