-- Every version of a product, with the landing days at which it is the one known: [landed_on, superseded_on).
select
    product_id,
    department,
    product_category,
    product_type,
    cast(coalesce(brand = 'Private', false) as boolean) as is_private_brand,
    coalesce(department not in ('FUEL', 'COUPON', 'MISCELLANEOUS'), false) as is_merchandise,
    landed_on,
    lead(landed_on, 1, {{ for_ever() }}) over (partition by product_id order by landed_on) as superseded_on
from {{ source('raw', 'products') }}
