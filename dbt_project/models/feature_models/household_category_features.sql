-- What is known about a household and a product category as of a Monday.
-- A row for every category of which the household, as known, bought a line in the 84 days before.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='as_of') }}

with as_ofs as (
    {{ as_ofs() }}
),

-- One small number for (household, category): millions of rows are sorted and grouped by it.
pairs as (
    select
        household_id,
        product_category,
        cast(row_number() over (order by household_id, product_category) as integer) as pair_id
    from {{ ref('household_category_day_deltas') }}
    where event_date >= {{ day('as_of_from') }} - 119 and landed_on < {{ day('as_of_to') }}
    group by household_id, product_category
),

deltas as (
    select
        pairs.pair_id,
        pairs.product_category,
        category_days.event_date,
        category_days.landed_on,
        category_days.lines_delta,
        category_days.spend_cents_delta,
        category_days.discount_cents_delta,
        category_days.coupon_lines_delta
    from {{ ref('household_category_day_deltas') }} as category_days
    inner join pairs
        on category_days.household_id = pairs.household_id
        and category_days.product_category = pairs.product_category
    where category_days.event_date >= {{ day('as_of_from') }} - 119 and category_days.landed_on < {{ day('as_of_to') }}
),

-- A shopping day's sums after each landing that changed it. They hold until the next such landing, and for no Monday
-- when nothing of the day remains.
days_known as (
    select
        pair_id,
        event_date,
        landed_on,
        case
            when sum(lines_delta) over (
                partition by pair_id, event_date order by landed_on rows between unbounded preceding and current row
            ) > 0 then lead(landed_on, 1, {{ for_ever() }}) over (partition by pair_id, event_date order by landed_on)
            else landed_on
        end as superseded_on,
        {% for measure in ['lines', 'spend_cents', 'discount_cents', 'coupon_lines'] -%}
        cast(sum({{ measure }}_delta) over (
            partition by pair_id, event_date order by landed_on rows between unbounded preceding and current row
        ) as integer) as {{ measure }}{{ ',' if not loop.last }}
        {% endfor %}
    from deltas
    where event_date >= {{ day('as_of_from') }} - 84
),

days as (
    select
        days_known.pair_id,
        as_ofs.as_of,
        days_known.event_date,
        cast(as_ofs.as_of - days_known.event_date as integer) as age_days,
        cast(days_known.event_date - lag(days_known.event_date) over (
            partition by days_known.pair_id, as_ofs.as_of order by days_known.event_date
        ) as integer) as gap_days,
        days_known.lines,
        days_known.spend_cents,
        days_known.discount_cents,
        days_known.coupon_lines
    from days_known
    inner join as_ofs
        on days_known.event_date < as_ofs.as_of
        and days_known.event_date >= as_ofs.as_of - 84
        and days_known.landed_on < as_ofs.as_of
        and days_known.superseded_on >= as_ofs.as_of
),

bought as (
    select
        pair_id,
        as_of,
        {% for window in [7, 28, 84] -%}
        count(case when age_days <= {{ window }} then 1 end) as days_{{ window }}d,
        sum(case when age_days <= {{ window }} then lines end) as lines_{{ window }}d,
        sum(case when age_days <= {{ window }} then spend_cents end) as spend_cents_{{ window }}d,
        {% endfor -%}
        sum(discount_cents) as discount_cents,
        sum(coupon_lines) as coupon_lines,
        -- The first day of each week: the day before it, if any, is further back than the week's Monday.
        count(
            case
                when gap_days is null or gap_days > mod(event_date - cast('2016-12-26' as date), 7) then 1
            end
        ) as weeks_bought,
        min(age_days) as recency_days,
        max(age_days) as oldest_days,
        min(case when gap_days is not null then age_days * 128 + gap_days end) as youngest_age_and_gap,
        sum(gap_days * gap_days) as gap_square_sum,
        median(gap_days) as median_gap_days
    from days
    group by pair_id, as_of
),

-- A pair bought in the 84 days has a total that landed in them.
totals_known as (
    select
        pairs.pair_id,
        totals.landed_on,
        lead(totals.landed_on, 1, {{ for_ever() }}) over (
            partition by pairs.pair_id order by totals.landed_on
        ) as superseded_on,
        totals.days_ever
    from {{ ref('household_category_totals') }} as totals
    inner join pairs
        on totals.household_id = pairs.household_id and totals.product_category = pairs.product_category
    where totals.landed_on >= {{ day('as_of_from') }} - 84 and totals.landed_on < {{ day('as_of_to') }}
),

-- Of those who bought a category in the 84 days to 35 days ago, how many bought it in the 28 days that followed.
matured as (
    select
        deltas.pair_id,
        as_ofs.as_of,
        sum(case when deltas.event_date < as_ofs.as_of - 35 then deltas.lines_delta end) as lines_before,
        sum(case when deltas.event_date >= as_ofs.as_of - 35 then deltas.lines_delta end) as lines_after
    from deltas
    inner join as_ofs
        on deltas.event_date < as_ofs.as_of - 7
        and deltas.event_date >= as_ofs.as_of - 119
        and deltas.landed_on < as_ofs.as_of
    group by deltas.pair_id, as_ofs.as_of
),

repurchases as (
    select
        pairs.product_category,
        matured.as_of,
        count(case when matured.lines_after > 0 then 1 end) as repurchasing,
        count(*) as households
    from matured
    inner join pairs on matured.pair_id = pairs.pair_id
    where matured.lines_before > 0
    group by pairs.product_category, matured.as_of
),

category_days as (
    select product_category, event_date, landed_on, sum(lines_delta) as lines_delta
    from deltas
    group by product_category, event_date, landed_on
),

momentum as (
    select
        category_days.product_category,
        as_ofs.as_of,
        sum(case when category_days.event_date >= as_ofs.as_of - 28 then category_days.lines_delta else 0 end)
            as lines_28d,
        sum(case when category_days.event_date < as_ofs.as_of - 28 then category_days.lines_delta else 0 end)
            as lines_previous_28d
    from category_days
    inner join as_ofs
        on category_days.event_date < as_ofs.as_of
        and category_days.event_date >= as_ofs.as_of - 56
        and category_days.landed_on < as_ofs.as_of
    group by category_days.product_category, as_ofs.as_of
),

-- The coming week's promotions as its newest file said.
promotions as (
    select
        category_promotions.store_id,
        category_promotions.product_category,
        as_ofs.as_of,
        category_promotions.mailer_products,
        category_promotions.display_products
    from {{ ref('category_promotions') }} as category_promotions
    inner join as_ofs
        on category_promotions.week_start = as_ofs.as_of
        and category_promotions.landed_on < as_ofs.as_of
    qualify rank() over (partition by as_ofs.as_of order by category_promotions.landed_on desc) = 1
),

-- A store that is in no file is unknown, not without promotions.
promoting_stores as (
    select distinct store_id, as_of from promotions
)

-- Left joins although every row has its match: they keep the small tables on the side that is hashed.
select
    pairs.household_id,
    pairs.product_category,
    bought.as_of,
    {% for window in [7, 28, 84] -%}
    cast(bought.days_{{ window }}d as integer) as days_{{ window }}d,
    cast(coalesce(bought.lines_{{ window }}d, 0) as integer) as lines_{{ window }}d,
    cast(coalesce(bought.spend_cents_{{ window }}d, 0) as bigint) as spend_cents_{{ window }}d,
    {% endfor -%}
    cast(bought.weeks_bought as integer) as weeks_bought_84d,
    totals_known.days_ever,
    cast(case when bought.recency_days <= 28 then 1 else 0 end as integer) as bought_28d,
    bought.recency_days,
    cast(mod(bought.youngest_age_and_gap, 128) as integer) as last_gap_days,
    {{ ratio('bought.oldest_days - bought.recency_days', 'bought.days_84d - 1') }} as mean_gap_days,
    cast(bought.median_gap_days as double) as median_gap_days,
    {{ standard_deviation(
        '(bought.days_84d - 1)', '(bought.oldest_days - bought.recency_days)', 'bought.gap_square_sum'
    ) }} as sd_gap_days,
    {{ ratio(
        'bought.recency_days * (bought.days_84d - 1)', 'bought.oldest_days - bought.recency_days'
    ) }} as recency_to_mean_gap_ratio,
    {{ ratio('bought.discount_cents', 'bought.spend_cents_84d + bought.discount_cents') }} as discount_share_84d,
    cast(case when bought.coupon_lines > 0 then 1 else 0 end as integer) as coupon_used_84d,
    {{ ratio('bought.spend_cents_84d', 'households.spend_cents_84d') }} as household_spend_share_84d,
    {{ trend('momentum.lines_28d', 'momentum.lines_previous_28d') }} as category_momentum_28d,
    {{ ratio('repurchases.repurchasing', 'repurchases.households') }} as category_repurchase_rate_28d,
    {% for place in ['mailer', 'display'] -%}
    cast(
        case when promoting_stores.store_id is not null then coalesce(promotions.{{ place }}_products, 0) end as integer
    ) as {{ place }}_products{{ ',' if not loop.last }}
    {% endfor %}
from bought
left join pairs on bought.pair_id = pairs.pair_id
left join totals_known
    on bought.pair_id = totals_known.pair_id
    and bought.as_of > totals_known.landed_on
    and bought.as_of <= totals_known.superseded_on
left join {{ ref('household_features') }} as households
    on pairs.household_id = households.household_id and bought.as_of = households.as_of
left join momentum on pairs.product_category = momentum.product_category and bought.as_of = momentum.as_of
left join repurchases on pairs.product_category = repurchases.product_category and bought.as_of = repurchases.as_of
left join promoting_stores
    on households.main_store_id = promoting_stores.store_id and bought.as_of = promoting_stores.as_of
left join promotions
    on households.main_store_id = promotions.store_id
    and pairs.product_category = promotions.product_category
    and bought.as_of = promotions.as_of
