-- What is known about a household as of a Monday: its trips of the last 84 days, its campaigns and redemptions.
-- A row for every household with a trip in those 84 days or a campaign running on the Monday.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='as_of') }}

with as_ofs as (
    {{ as_ofs() }}
),

-- A shopping day's sums after each landing that changed it. They hold until the next such landing, and for no Monday
-- when nothing of the day remains.
days_known as (
    select
        household_id,
        event_date,
        landed_on,
        case
            when sum(lines_delta) over (
                partition by household_id, event_date order by landed_on rows between unbounded preceding and current row
            ) > 0 then lead(landed_on, 1, {{ for_ever() }}) over (partition by household_id, event_date order by landed_on)
            else landed_on
        end as superseded_on,
        {% for measure in ['baskets', 'lines', 'spend_cents', 'discount_cents', 'coupon_lines', 'private_brand_lines'] -%}
        cast(sum({{ measure }}_delta) over (
            partition by household_id, event_date order by landed_on rows between unbounded preceding and current row
        ) as integer) as {{ measure }}{{ ',' if not loop.last }}
        {% endfor %}
    from {{ ref('household_day_deltas') }}
    where event_date >= {{ day('as_of_from') }} - 84 and landed_on < {{ day('as_of_to') }}
),

days as (
    select
        days_known.*,
        as_ofs.as_of,
        as_ofs.as_of - days_known.event_date as age_days,
        days_known.event_date - lag(days_known.event_date) over (
            partition by days_known.household_id, as_ofs.as_of order by days_known.event_date
        ) as gap_days
    from days_known
    inner join as_ofs
        on days_known.event_date < as_ofs.as_of
        and days_known.event_date >= as_ofs.as_of - 84
        and days_known.landed_on < as_ofs.as_of
        and days_known.superseded_on >= as_ofs.as_of
),

shopping as (
    select
        household_id,
        as_of,
        {% for window in [7, 28, 84] -%}
        sum(case when age_days <= {{ window }} then 1 else 0 end) as days_{{ window }}d,
        sum(case when age_days <= {{ window }} then baskets else 0 end) as trips_{{ window }}d,
        sum(case when age_days <= {{ window }} then lines else 0 end) as lines_{{ window }}d,
        sum(case when age_days <= {{ window }} then spend_cents else 0 end) as spend_cents_{{ window }}d,
        {% endfor -%}
        sum(case when age_days > 28 and age_days <= 56 then spend_cents else 0 end) as spend_cents_previous_28d,
        sum(discount_cents) as discount_cents,
        sum(coupon_lines) as coupon_lines,
        sum(private_brand_lines) as private_brand_lines,
        sum(case when mod(event_date - cast('2016-12-26' as date), 7) >= 5 then 1 else 0 end) as weekend_days,
        min(age_days) as recency_days,
        count(gap_days) as gaps,
        sum(gap_days) as gap_sum,
        sum(gap_days * gap_days) as gap_square_sum
    from days
    group by household_id, as_of
),

-- Baskets by store: additive, so the landings before a Monday are simply summed.
store_visits as (
    select
        basket_changes.household_id,
        as_ofs.as_of,
        basket_changes.store_id,
        count(*) over (partition by basket_changes.household_id, as_ofs.as_of) as stores,
        row_number() over (
            partition by basket_changes.household_id, as_ofs.as_of
            order by sum(basket_changes.baskets_delta) desc, basket_changes.store_id
        ) as rank_in_household
    from {{ ref('basket_changes') }} as basket_changes
    inner join as_ofs
        on basket_changes.event_date < as_ofs.as_of
        and basket_changes.event_date >= as_ofs.as_of - 84
        and basket_changes.landed_on < as_ofs.as_of
    group by basket_changes.household_id, as_ofs.as_of, basket_changes.store_id
    having sum(basket_changes.baskets_delta) > 0
),

categories_bought as (
    select category_days.household_id, as_ofs.as_of, category_days.product_category
    from {{ ref('household_category_day_deltas') }} as category_days
    inner join as_ofs
        on category_days.event_date < as_ofs.as_of
        and category_days.event_date >= as_ofs.as_of - 84
        and category_days.landed_on < as_ofs.as_of
    group by category_days.household_id, as_ofs.as_of, category_days.product_category
    having sum(category_days.lines_delta) > 0
),

breadth as (
    select household_id, as_of, count(*) as categories
    from categories_bought
    group by household_id, as_of
),

-- Campaigns that ran on any of the last 84 days, as known; those running on the Monday are active.
campaigns as (
    select
        membership.household_id,
        membership.campaign_id,
        membership.campaign_type,
        membership.start_date,
        membership.end_date,
        as_ofs.as_of,
        case when membership.end_date >= as_ofs.as_of then 1 else 0 end as is_active
    from {{ ref('campaign_membership') }} as membership
    inner join as_ofs
        on membership.landed_on < as_ofs.as_of
        and membership.superseded_on >= as_ofs.as_of
        and membership.start_date <= as_ofs.as_of
        and membership.end_date >= as_ofs.as_of - 84
),

redemptions as (
    select
        deltas.household_id,
        deltas.campaign_id,
        as_ofs.as_of,
        sum(case when deltas.event_date >= as_ofs.as_of - 28 then deltas.redemptions_delta else 0 end) as redemptions_28d,
        sum(deltas.redemptions_delta) as redemptions_84d,
        min(as_ofs.as_of - deltas.event_date) as days_since_redemption
    from {{ ref('redemption_day_deltas') }} as deltas
    inner join as_ofs
        on deltas.event_date < as_ofs.as_of
        and deltas.event_date >= as_ofs.as_of - 84
        and deltas.landed_on < as_ofs.as_of
    group by deltas.household_id, deltas.campaign_id, as_ofs.as_of
),

redeeming as (
    select
        household_id,
        as_of,
        sum(redemptions_28d) as redemptions_28d,
        sum(redemptions_84d) as redemptions_84d,
        min(days_since_redemption) as days_since_redemption
    from redemptions
    group by household_id, as_of
),

targeting as (
    select
        campaigns.household_id,
        campaigns.as_of,
        sum(campaigns.is_active) as active_campaigns,
        {% for type in ['a', 'b', 'c'] -%}
        sum(case when campaigns.campaign_type = '{{ type | upper }}' then campaigns.is_active else 0 end) as active_campaigns_type_{{ type }},
        {% endfor -%}
        min(case when campaigns.is_active = 1 then campaigns.as_of - campaigns.start_date end) as days_since_campaign_start,
        max(case when campaigns.is_active = 1 then campaigns.end_date - campaigns.as_of end) as days_to_campaign_end,
        count(*) as campaigns_84d,
        count(redemptions.campaign_id) as campaigns_redeemed_84d,
        sum(case when campaigns.is_active = 1 then redemptions.redemptions_84d else 0 end) as redemptions_active_campaigns
    from campaigns
    left join redemptions
        on campaigns.household_id = redemptions.household_id
        and campaigns.campaign_id = redemptions.campaign_id
        and campaigns.as_of = redemptions.as_of
    group by campaigns.household_id, campaigns.as_of
),

trips as (
    {{ ever(ref('household_day_deltas'), ['household_id'], 'baskets_delta', 'trips_ever') }}
),

redeemed as (
    {{ ever(ref('redemption_day_deltas'), ['household_id'], 'redemptions_delta', 'redemptions_ever') }}
),

population as (
    select household_id, as_of from shopping
    union
    select household_id, as_of from targeting where active_campaigns > 0
)

select
    population.household_id,
    population.as_of,
    {% for window in [7, 28, 84] -%}
    cast(coalesce(shopping.days_{{ window }}d, 0) as integer) as days_{{ window }}d,
    cast(coalesce(shopping.trips_{{ window }}d, 0) as integer) as trips_{{ window }}d,
    cast(coalesce(shopping.lines_{{ window }}d, 0) as integer) as lines_{{ window }}d,
    cast(coalesce(shopping.spend_cents_{{ window }}d, 0) as bigint) as spend_cents_{{ window }}d,
    {% endfor -%}
    coalesce(trips.trips_ever, 0) as trips_ever,
    cast(coalesce(breadth.categories, 0) as integer) as categories_84d,
    cast(coalesce(store_visits.stores, 0) as integer) as stores_84d,
    store_visits.store_id as main_store_id,
    cast(shopping.recency_days as integer) as recency_days,
    {{ ratio('shopping.gap_sum', 'shopping.gaps') }} as mean_gap_days,
    {{ standard_deviation('shopping.gaps', 'shopping.gap_sum', 'shopping.gap_square_sum') }} as sd_gap_days,
    {{ ratio('shopping.discount_cents', 'shopping.spend_cents_84d + shopping.discount_cents') }} as discount_share_84d,
    {{ ratio('shopping.coupon_lines', 'shopping.lines_84d') }} as coupon_lines_share_84d,
    {{ ratio('shopping.private_brand_lines', 'shopping.lines_84d') }} as private_brand_share_84d,
    {{ ratio('shopping.weekend_days', 'shopping.days_84d') }} as weekend_share_84d,
    {{ trend('shopping.spend_cents_28d', 'shopping.spend_cents_previous_28d') }} as spend_trend_28d,
    cast(coalesce(targeting.active_campaigns, 0) as integer) as active_campaigns,
    {% for type in ['a', 'b', 'c'] -%}
    cast(coalesce(targeting.active_campaigns_type_{{ type }}, 0) as integer) as active_campaigns_type_{{ type }},
    {% endfor -%}
    cast(targeting.days_since_campaign_start as integer) as days_since_campaign_start,
    cast(targeting.days_to_campaign_end as integer) as days_to_campaign_end,
    cast(coalesce(targeting.campaigns_84d, 0) as integer) as campaigns_84d,
    cast(coalesce(redeeming.redemptions_28d, 0) as integer) as redemptions_28d,
    cast(coalesce(redeeming.redemptions_84d, 0) as integer) as redemptions_84d,
    coalesce(redeemed.redemptions_ever, 0) as redemptions_ever,
    cast(coalesce(targeting.redemptions_active_campaigns, 0) as integer) as redemptions_active_campaigns_84d,
    cast(redeeming.days_since_redemption as integer) as days_since_redemption,
    {{ ratio('targeting.campaigns_redeemed_84d', 'targeting.campaigns_84d') }} as campaign_redemption_share_84d
from population
left join shopping on population.household_id = shopping.household_id and population.as_of = shopping.as_of
left join store_visits
    on population.household_id = store_visits.household_id
    and population.as_of = store_visits.as_of
    and store_visits.rank_in_household = 1
left join breadth on population.household_id = breadth.household_id and population.as_of = breadth.as_of
left join targeting on population.household_id = targeting.household_id and population.as_of = targeting.as_of
left join redeeming on population.household_id = redeeming.household_id and population.as_of = redeeming.as_of
left join trips on population.household_id = trips.household_id and population.as_of = trips.as_of
left join redeemed on population.household_id = redeemed.household_id and population.as_of = redeemed.as_of
