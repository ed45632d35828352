{# The two ranges a run is about. Their values come from vars and are checked here: a day, nothing else, enters SQL. #}

{% macro day(name) -%}
    {%- set text = var(name) | string -%}
    {%- if not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}', text) -%}
        {{ exceptions.raise_compiler_error(name ~ " must be a day written YYYY-MM-DD, not " ~ text) }}
    {%- endif -%}
    cast('{{ text }}' as date)
{%- endmacro %}

{# Is the row of one of the landing days of this run? #}
{% macro in_landed_range(column='landed_on') -%}
    {{ column }} between {{ day('landed_from') }} and {{ day('landed_to') }}
{%- endmacro %}

{# Is the row of one of the Mondays of this run? #}
{% macro in_as_of_range(column='as_of') -%}
    {{ column }} between {{ day('as_of_from') }} and {{ day('as_of_to') }}
{%- endmacro %}

{# The Mondays of this run whose eve has landed: nothing is said as of a Monday before all that it may use is there. #}
{% macro as_ofs() -%}
    select landed_on + 1 as as_of
    from {{ source('raw', 'loads') }}
    where table_name = 'transactions'
        and landed_on + 1 between {{ day('as_of_from') }} and {{ day('as_of_to') }}
        and mod(landed_on + 1 - cast('2016-12-26' as date), 7) = 0
{%- endmacro %}

{# The Monday that comes after a day: what landed on the day is known as of it. #}
{% macro monday_after(column) -%}
    {{ return(adapter.dispatch('monday_after')(column)) }}
{%- endmacro %}

{% macro default__monday_after(column) -%}
    {{ column }} + cast(7 - mod({{ column }} - cast('2016-12-26' as date), 7) as integer)
{%- endmacro %}

{% macro snowflake__monday_after(column) -%}
    dateadd(day, 7 - mod({{ column }} - cast('2016-12-26' as date), 7), {{ column }})
{%- endmacro %}

{# The day on which what is still the newest version will be superseded. #}
{% macro for_ever() -%}
    cast('9999-12-31' as date)
{%- endmacro %}
