-- What is known about a household and a product category as of a Monday.
-- A row for every category of which the household, as known, bought a line in the 84 days before.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='as_of') }}

with as_ofs as (
    {{ as_ofs() }}
),

deltas as (
    select *
    from {{ ref('household_category_day_deltas') }}
    where event_date >= {{ day('as_of_from') }} - 119 and landed_on < {{ day('as_of_to') }}
),

-- One number for (household, category): everything below groups by it millions of times.
pairs as (
    select household_id, product_category, row_number() over (order by household_id, product_category) as pair_id
    from (select distinct household_id, product_category from deltas) as bought
),

-- A shopping day's sums after each landing that changed it, valid until the next such landing.
days_known as (
    select
        pairs.pair_id,
        deltas.event_date,
        deltas.landed_on,
        lead(deltas.landed_on) over (
            partition by pairs.pair_id, deltas.event_date order by deltas.landed_on
        ) as superseded_on,
        {% for measure in ['lines', 'spend_cents', 'discount_cents', 'coupon_lines'] -%}
        sum(deltas.{{ measure }}_delta) over (
            partition by pairs.pair_id, deltas.event_date
            order by deltas.landed_on rows between unbounded preceding and current row
        ) as {{ measure }}{{ ',' if not loop.last }}
        {% endfor %}
    from deltas
    inner join pairs on deltas.household_id = pairs.household_id and deltas.product_category = pairs.product_category
),

days as (
    select
        days_known.*,
        as_ofs.as_of,
        as_ofs.as_of - days_known.event_date as age_days,
        lag(days_known.event_date) over (
            partition by days_known.pair_id, as_ofs.as_of order by days_known.event_date
        ) as previous_date
    from days_known
    inner join as_ofs
        on days_known.event_date < as_ofs.as_of
        and days_known.event_date >= as_ofs.as_of - 84
        and days_known.landed_on < as_ofs.as_of
        and (days_known.superseded_on is null or days_known.superseded_on >= as_ofs.as_of)
    where days_known.lines > 0
),

bought as (
    select
        pair_id,
        as_of,
        {% for window in [7, 28, 84] -%}
        sum(case when age_days <= {{ window }} then 1 else 0 end) as days_{{ window }}d,
        sum(case when age_days <= {{ window }} then lines else 0 end) as lines_{{ window }}d,
        sum(case when age_days <= {{ window }} then spend_cents else 0 end) as spend_cents_{{ window }}d,
        {% endfor -%}
        sum(case when age_days > 28 and age_days <= 56 then lines else 0 end) as lines_previous_28d,
        sum(discount_cents) as discount_cents,
        max(case when coupon_lines > 0 then 1 else 0 end) as coupon_84d,
        sum(
            case
                when previous_date is null then 1
                when floor((event_date - cast('2016-12-26' as date)) / 7)
                    > floor((previous_date - cast('2016-12-26' as date)) / 7) then 1
                else 0
            end
        ) as weeks_bought,
        min(age_days) as recency_days,
        max(age_days) as oldest_days,
        sum((event_date - previous_date) * (event_date - previous_date)) as gap_square_sum,
        max(previous_date) as previous_date,
        max(event_date) as last_date,
        median(event_date - previous_date) as median_gap_days
    from days
    group by pair_id, as_of
),

-- Of those who bought a category in the 84 days to 35 days ago, how many bought it in the 28 days that followed.
matured as (
    select
        deltas.household_id,
        deltas.product_category,
        as_ofs.as_of,
        sum(case when deltas.event_date < as_ofs.as_of - 35 then deltas.lines_delta else 0 end) as lines_before,
        sum(case when deltas.event_date >= as_ofs.as_of - 35 then deltas.lines_delta else 0 end) as lines_after
    from deltas
    inner join as_ofs
        on deltas.event_date < as_ofs.as_of - 7
        and deltas.event_date >= as_ofs.as_of - 119
        and deltas.landed_on < as_ofs.as_of
    group by deltas.household_id, deltas.product_category, as_ofs.as_of
),

repurchases as (
    select
        product_category,
        as_of,
        sum(case when lines_after > 0 then 1 else 0 end) as repurchased,
        count(*) as households
    from matured
    where lines_before > 0
    group by product_category, as_of
),

momentum as (
    select
        pairs.product_category,
        bought.as_of,
        sum(bought.lines_28d) as lines_28d,
        sum(bought.lines_previous_28d) as lines_previous_28d
    from bought
    inner join pairs on bought.pair_id = pairs.pair_id
    group by pairs.product_category, bought.as_of
),

-- The coming week's promotions as its newest file said; a store that is in no file is unknown, not without promotions.
promotions as (
    select category_promotions.*, as_ofs.as_of
    from {{ ref('category_promotions') }} as category_promotions
    inner join as_ofs
        on category_promotions.week_start = as_ofs.as_of
        and category_promotions.landed_on < as_ofs.as_of
    qualify rank() over (partition by as_ofs.as_of order by category_promotions.landed_on desc) = 1
),

promoting_stores as (
    select distinct store_id, as_of from promotions
)

select
    pairs.household_id,
    pairs.product_category,
    bought.as_of,
    {% for window in [7, 28, 84] -%}
    cast(bought.days_{{ window }}d as integer) as days_{{ window }}d,
    cast(bought.lines_{{ window }}d as integer) as lines_{{ window }}d,
    cast(bought.spend_cents_{{ window }}d as bigint) as spend_cents_{{ window }}d,
    {% endfor -%}
    cast(bought.weeks_bought as integer) as weeks_bought_84d,
    cast(case when bought.days_28d > 0 then 1 else 0 end as integer) as bought_28d,
    cast(bought.recency_days as integer) as recency_days,
    cast(bought.last_date - bought.previous_date as integer) as last_gap_days,
    {{ ratio('bought.oldest_days - bought.recency_days', 'bought.days_84d - 1') }} as mean_gap_days,
    cast(bought.median_gap_days as double) as median_gap_days,
    {{ standard_deviation(
        '(bought.days_84d - 1)', '(bought.oldest_days - bought.recency_days)', 'bought.gap_square_sum'
    ) }} as sd_gap_days,
    {{ ratio(
        'bought.recency_days * (bought.days_84d - 1)', 'bought.oldest_days - bought.recency_days'
    ) }} as recency_to_mean_gap_ratio,
    {{ ratio('bought.discount_cents', 'bought.spend_cents_84d + bought.discount_cents') }} as discount_share_84d,
    cast(bought.coupon_84d as integer) as coupon_used_84d,
    {{ ratio('bought.spend_cents_84d', 'households.spend_cents_84d') }} as household_spend_share_84d,
    {{ trend('momentum.lines_28d', 'momentum.lines_previous_28d') }} as category_momentum_28d,
    {{ ratio('repurchases.repurchased', 'repurchases.households') }} as category_repurchase_rate_28d,
    cast(
        case when promoting_stores.store_id is not null then coalesce(promotions.mailer_products, 0) end as integer
    ) as mailer_products,
    cast(
        case when promoting_stores.store_id is not null then coalesce(promotions.display_products, 0) end as integer
    ) as display_products
from bought
inner join pairs on bought.pair_id = pairs.pair_id
inner join momentum on pairs.product_category = momentum.product_category and bought.as_of = momentum.as_of
inner join {{ ref('household_features') }} as households
    on pairs.household_id = households.household_id and bought.as_of = households.as_of
left join repurchases on pairs.product_category = repurchases.product_category and bought.as_of = repurchases.as_of
left join promoting_stores
    on households.main_store_id = promoting_stores.store_id and bought.as_of = promoting_stores.as_of
left join promotions
    on households.main_store_id = promotions.store_id
    and pairs.product_category = promotions.product_category
    and bought.as_of = promotions.as_of
