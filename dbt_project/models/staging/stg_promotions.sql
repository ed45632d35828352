-- What the weekly promotion files say, with codes turned into the two facts that matter.
select
    product_id,
    store_id,
    week_start,
    coalesce(mailer_location, '0') <> '0' as is_in_mailer,
    coalesce(display_location, '0') <> '0' as is_on_display,
    landed_on
from {{ source('raw', 'promotions') }}
