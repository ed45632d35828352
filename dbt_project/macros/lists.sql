{# Lists, said once for each engine: DuckDB has typed lists, Snowflake arrays. #}

{# The values of a group as a list, in the order of an expression. #}
{% macro list_of(value, order_by) -%}
    {{ return(adapter.dispatch('list_of')(value, order_by)) }}
{%- endmacro %}

{% macro default__list_of(value, order_by) -%}
    array_agg({{ value }} order by {{ order_by }})
{%- endmacro %}

{% macro snowflake__list_of(value, order_by) -%}
    array_agg({{ value }}) within group (order by {{ order_by }})
{%- endmacro %}

{# The items of a list of lists, one after the other. #}
{% macro chained(lists) -%}
    {{ return(adapter.dispatch('chained')(lists)) }}
{%- endmacro %}

{% macro default__chained(lists) -%}
    flatten({{ lists }})
{%- endmacro %}

{% macro snowflake__chained(lists) -%}
    array_flatten({{ lists }})
{%- endmacro %}

{# How many different items a list has. #}
{% macro distinct_items(list) -%}
    {{ return(adapter.dispatch('distinct_items')(list)) }}
{%- endmacro %}

{% macro default__distinct_items(list) -%}
    len(array_distinct({{ list }}))
{%- endmacro %}

{% macro snowflake__distinct_items(list) -%}
    array_size(array_distinct({{ list }}))
{%- endmacro %}
