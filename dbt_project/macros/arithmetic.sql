{# Ratios of integers: exact sums, then a single division in double precision, so that every engine and thread count
   gives the same bits. Null where the denominator is 0. #}

{% macro ratio(numerator, denominator) -%}
    cast({{ numerator }} as double) / nullif(cast({{ denominator }} as double), 0)
{%- endmacro %}

{# (now - before) / (now + before), from -1 to 1: unlike now / before it stays bounded. #}
{% macro trend(now, before) -%}
    {{ ratio(now ~ ' - ' ~ before, now ~ ' + ' ~ before) }}
{%- endmacro %}

{# Sample standard deviation from count, sum and sum of squares of integers; null for fewer than two. #}
{% macro standard_deviation(count, total, square_total) -%}
    sqrt({{ ratio(count ~ ' * ' ~ square_total ~ ' - ' ~ total ~ ' * ' ~ total, count ~ ' * (' ~ count ~ ' - 1)') }})
{%- endmacro %}
