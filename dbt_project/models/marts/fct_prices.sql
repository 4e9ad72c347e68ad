with versions as (
    select
        product_id,
        price,
        currency_code,
        dbt_valid_from as valid_from,
        dbt_valid_to as valid_to
    from {{ ref("snap_bookshop__prices") }}
    where price is not null
),

-- A period begins where the price is another one, or where the product wasn't on the shelves before: history also has
-- rows for changes of stock alone.
marked as (
    select
        *,
        coalesce(
            lag(price) over product = price
            and lag(coalesce(currency_code, '')) over product = coalesce(currency_code, '')
            and lag(valid_to) over product = valid_from,
            false
        ) as continues
    from versions
    window product as (partition by product_id order by valid_from, valid_to nulls last)
),

numbered as (
    select
        *,
        count(*) filter (where not continues) over (
            partition by product_id
            order by valid_from, valid_to nulls last
        ) as period
    from marked
),

periods as (
    select
        product_id,
        period,
        price,
        currency_code,
        min(valid_from) as valid_from,
        case when bool_or(valid_to is null) then null else max(valid_to) end as valid_to
    from numbered
    group by product_id, period, price, currency_code
),

compared as (
    select
        *,
        case
            when lag(coalesce(currency_code, '')) over product = coalesce(currency_code, '')
                then lag(price) over product
        end as previous_price
    from periods
    window product as (partition by product_id order by period)
)

select
    {{ surrogate_key(["compared.product_id", "compared.period"]) }} as price_id,
    compared.product_id,
    matched.book_id,
    compared.price::numeric(10, 2) as price,
    compared.currency_code,
    compared.valid_from,
    compared.valid_to,
    compared.valid_to is null as is_current,
    compared.previous_price::numeric(10, 2) as previous_price,
    (compared.price - compared.previous_price)::numeric(10, 2) as price_change,
    round(100 * (compared.price - compared.previous_price) / nullif(compared.previous_price, 0), 2)::numeric(12, 2)
        as price_change_percent
from compared
inner join {{ ref("int_products_matched") }} as matched on compared.product_id = matched.product_id
