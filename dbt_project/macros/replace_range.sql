{# Incremental strategy: one statement deletes the run's whole range, the next inserts it anew, in one transaction.
   `unique_key` is the column of the range. Unlike delete+insert it also clears a day that has no rows any more. #}
{% macro get_incremental_replace_range_sql(arg_dict) %}
    {{ return(adapter.dispatch('replace_range')(arg_dict)) }}
{% endmacro %}

{% macro default__replace_range(arg_dict) %}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    delete from {{ arg_dict['target_relation'] }}
    where {{ {'landed_on': in_landed_range, 'as_of': in_as_of_range}[arg_dict['unique_key']]() }};
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
{% endmacro %}

{# dbt opens a transaction around the two on DuckDB, and leaves it to the statements on Snowflake. #}
{% macro snowflake__replace_range(arg_dict) %}
    begin;
    {{ default__replace_range(arg_dict) }};
    commit
{% endmacro %}

{# Before each model, in the session that will build it. Nothing on DuckDB. A model that failed between delete and
   insert has left its transaction open there, and Snowflake would commit it with the next model's `create`; what waits
   or runs without end is ended: Snowflake's own limit is two days. Timestamps are UTC, whatever the account's default. #}
{% macro begin_afresh() -%}
    {% if target.type == 'snowflake' -%}
        rollback;
        alter session set statement_timeout_in_seconds = {{ var('statement_timeout_seconds') | int }}
            timezone = 'UTC' timestamp_type_mapping = 'TIMESTAMP_NTZ'
    {%- endif %}
{%- endmacro %}
