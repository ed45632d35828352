{# Everything a mart's additive measure has come to as known on each Monday of the CTE `as_ofs`, per entity. #}
{% macro ever(relation, keys, measure, name) -%}
    select
        {% for key in keys %}deltas.{{ key }}, {% endfor -%}
        as_ofs.as_of,
        cast(sum(deltas.{{ measure }}) as integer) as {{ name }}
    from {{ relation }} as deltas
    inner join as_ofs on deltas.landed_on < as_ofs.as_of
    group by {% for key in keys %}deltas.{{ key }}, {% endfor %}as_ofs.as_of
{%- endmacro %}
