{# Incremental strategy: one statement deletes the run's whole range, the next inserts it anew, in one transaction.
   `unique_key` is the column of the range. Unlike delete+insert it also clears a day that has no rows any more. #}
{% macro get_incremental_replace_range_sql(arg_dict) %}
    {% set columns = get_quoted_csv(arg_dict['dest_columns'] | map(attribute='name')) %}
    delete from {{ arg_dict['target_relation'] }}
    where {{ {'landed_on': in_landed_range, 'as_of': in_as_of_range}[arg_dict['unique_key']]() }};
    insert into {{ arg_dict['target_relation'] }} ({{ columns }})
    select {{ columns }} from {{ arg_dict['temp_relation'] }}
{% endmacro %}
