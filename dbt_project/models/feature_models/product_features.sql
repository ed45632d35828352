-- What is known about a product as of a Monday: how often and by whom it was bought in the 84 days before.
-- A row for every product of which at least 10 lines are known: the catalogue a Monday's recommendations come from.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='as_of') }}

with as_ofs as (
    {{ as_ofs() }}
),

day_changes as (
    select product_id, event_date, landed_on, sum(sign) as lines_delta
    from {{ ref('line_changes') }}
    where landed_on < {{ day('as_of_to') }}
    group by product_id, event_date, landed_on
    having sum(sign) <> 0
),

day_sums as (
    select
        *,
        sum(lines_delta) over (
            partition by product_id, event_date order by landed_on rows between unbounded preceding and current row
        ) as lines
    from day_changes
),

-- `fewest_lines`: of all that will be known of the day from this landing on; 0 when the day will be gone again.
days_known as (
    select
        *,
        lead(landed_on, 1, {{ for_ever() }}) over (
            partition by product_id, event_date order by landed_on
        ) as superseded_on,
        min(lines) over (
            partition by product_id, event_date order by landed_on rows between current row and unbounded following
        ) as fewest_lines
    from day_sums
),

-- What lands in the week before a Monday counts from it on; what is older than this run, from its first.
weeks as (
    select
        product_id,
        greatest({{ monday_after('landed_on') }}, {{ day('as_of_from') }}) as known_from,
        sum(lines_delta) as lines_delta,
        max(case when fewest_lines > 0 then event_date end) as last_sold_on
    from days_known
    group by product_id, greatest({{ monday_after('landed_on') }}, {{ day('as_of_from') }})
),

weeks_known as (
    select
        product_id,
        known_from,
        lead(known_from, 1, {{ for_ever() }}) over (partition by product_id order by known_from) as superseded_from,
        sum(lines_delta) over (
            partition by product_id order by known_from rows between unbounded preceding and current row
        ) as lines_ever,
        max(last_sold_on) over (
            partition by product_id order by known_from rows between unbounded preceding and current row
        ) as last_sold_on
    from weeks
),

catalogue as (
    select weeks_known.product_id, as_ofs.as_of, weeks_known.last_sold_on
    from weeks_known
    inner join as_ofs
        on as_ofs.as_of >= weeks_known.known_from
        and as_ofs.as_of < weeks_known.superseded_from
    where weeks_known.lines_ever >= 10
),

-- Days that were known as sold and then withdrawn: few, and each for few Mondays.
passing as (
    select days_known.product_id, as_ofs.as_of, max(days_known.event_date) as last_sold_on
    from days_known
    inner join as_ofs on days_known.landed_on < as_ofs.as_of and days_known.superseded_on >= as_ofs.as_of
    where days_known.lines > 0 and days_known.fewest_lines = 0
    group by days_known.product_id, as_ofs.as_of
),

-- A line of a product is a basket with it: a receipt names a product once.
purchases as (
    select household_id, product_id, event_date, landed_on, sum(sign) as baskets_delta
    from {{ ref('line_changes') }}
    where event_date >= {{ day('as_of_from') }} - 84 and landed_on < {{ day('as_of_to') }}
        and product_id in (select product_id from catalogue)
    group by household_id, product_id, event_date, landed_on
    having sum(sign) <> 0
),

-- One small number for (household, product): millions of rows are grouped by it.
pairs as (
    select
        household_id,
        product_id,
        cast(row_number() over (order by household_id, product_id) as integer) as pair_id,
        count(*) as purchases
    from purchases
    group by household_id, product_id
),

days_bought as (
    select
        pairs.pair_id,
        purchases.event_date,
        purchases.landed_on,
        case
            when sum(purchases.baskets_delta) over (
                partition by pairs.pair_id, purchases.event_date
                order by purchases.landed_on rows between unbounded preceding and current row
            ) > 0 then lead(purchases.landed_on, 1, {{ for_ever() }}) over (
                partition by pairs.pair_id, purchases.event_date order by purchases.landed_on
            )
            else purchases.landed_on
        end as superseded_on,
        cast(sum(purchases.baskets_delta) over (
            partition by pairs.pair_id, purchases.event_date
            order by purchases.landed_on rows between unbounded preceding and current row
        ) as integer) as baskets
    from purchases
    inner join pairs on purchases.household_id = pairs.household_id and purchases.product_id = pairs.product_id
    where pairs.purchases > 1
),

buyers as (
    select
        days_bought.pair_id,
        as_ofs.as_of,
        sum(days_bought.baskets) as baskets_84d,
        sum(case when days_bought.event_date >= as_ofs.as_of - 28 then days_bought.baskets else 0 end) as baskets_28d,
        max(days_bought.event_date) - min(days_bought.event_date) as span_days
    from days_bought
    inner join as_ofs
        on days_bought.event_date < as_ofs.as_of
        and days_bought.event_date >= as_ofs.as_of - 84
        and days_bought.landed_on < as_ofs.as_of
        and days_bought.superseded_on >= as_ofs.as_of
    group by days_bought.pair_id, as_ofs.as_of
),

-- Most pairs are of a single day and never changed: they are counted by the day. Two baskets of one day lie 0 days apart.
single_days as (
    select
        purchases.product_id,
        purchases.event_date,
        purchases.landed_on,
        sum(purchases.baskets_delta) as baskets,
        count(*) as buyers,
        count(case when purchases.baskets_delta > 1 then 1 end) as repeat_buyers
    from purchases
    inner join pairs on purchases.household_id = pairs.household_id and purchases.product_id = pairs.product_id
    where pairs.purchases = 1
    group by purchases.product_id, purchases.event_date, purchases.landed_on
),

-- A buyer's mean gap in whole millionths of a day, so that their sum is exact.
bought as (
    select
        pairs.product_id,
        buyers.as_of,
        sum(buyers.baskets_84d) as lines_84d,
        sum(buyers.baskets_28d) as lines_28d,
        count(*) as buyers,
        count(case when buyers.baskets_84d > 1 then 1 end) as repeat_buyers,
        sum(
            case
                when buyers.baskets_84d > 1
                    then cast(floor({{ ratio('buyers.span_days * 1000000', 'buyers.baskets_84d - 1') }}) as bigint)
                else 0
            end
        ) as gap_microdays
    from buyers
    inner join pairs on buyers.pair_id = pairs.pair_id
    group by pairs.product_id, buyers.as_of
    union all
    select
        single_days.product_id,
        as_ofs.as_of,
        sum(single_days.baskets) as lines_84d,
        sum(case when single_days.event_date >= as_ofs.as_of - 28 then single_days.baskets else 0 end) as lines_28d,
        sum(single_days.buyers) as buyers,
        sum(single_days.repeat_buyers) as repeat_buyers,
        0 as gap_microdays
    from single_days
    inner join as_ofs
        on single_days.event_date < as_ofs.as_of
        and single_days.event_date >= as_ofs.as_of - 84
        and single_days.landed_on < as_ofs.as_of
    group by single_days.product_id, as_ofs.as_of
),

demand as (
    select
        product_id,
        as_of,
        sum(lines_84d) as lines_84d,
        sum(lines_28d) as lines_28d,
        sum(buyers) as buyers,
        sum(repeat_buyers) as repeat_buyers,
        sum(gap_microdays) as gap_microdays
    from bought
    group by product_id, as_of
)

select
    catalogue.product_id,
    catalogue.as_of,
    coalesce(products.product_category, 'unknown') as category,
    cast(coalesce(demand.lines_84d, 0) as integer) as lines_84d,
    cast(coalesce(demand.buyers, 0) as integer) as buyers_84d,
    {{ ratio('demand.repeat_buyers', 'demand.buyers') }} as repeat_share_84d,
    {{ ratio('demand.gap_microdays', 'demand.repeat_buyers * 1000000') }} as mean_gap_days_84d,
    cast(coalesce(demand.lines_28d, 0) as integer) as lines_28d,
    cast(
        catalogue.as_of - greatest(
            coalesce(catalogue.last_sold_on, passing.last_sold_on), coalesce(passing.last_sold_on, catalogue.last_sold_on)
        ) as integer
    ) as recency_days
from catalogue
left join passing on catalogue.product_id = passing.product_id and catalogue.as_of = passing.as_of
left join demand on catalogue.product_id = demand.product_id and catalogue.as_of = demand.as_of
left join {{ ref('stg_products') }} as products
    on catalogue.product_id = products.product_id
    and catalogue.as_of > products.landed_on
    and catalogue.as_of <= products.superseded_on
