{# +1 when something comes to be with this change, -1 when it goes, 0 when it was there before and after. #}
{% macro appearance(after, delta) -%}
    cast(
        case when {{ after }} > 0 then 1 else 0 end - case when {{ after }} - {{ delta }} > 0 then 1 else 0 end as integer
    )
{%- endmacro %}

