-- `materialized`: Postgres would otherwise fold each name once for every column that is made of its key.
with keyed as materialized (
    select
        gutenberg_id,
        position,
        display_name,
        {{ name_key("display_name") }} as name_key,
        birth_year,
        death_year
    from {{ ref("stg_gutenberg__contributors") }}
    where role = 'author'
),

dated as (
    select
        *,
        -- The catalogue tells people of one name apart by their years; where it knows one year alone, a record without
        -- it means the same person.
        case
            when min(birth_year) over same_name = max(birth_year) over same_name then min(birth_year) over same_name
            else birth_year
        end as known_birth_year
    from keyed
    where name_key is not null
    window same_name as (partition by name_key)
),

identified as (
    select
        *,
        {{ surrogate_key(["name_key", "known_birth_year"]) }} as author_id
    from dated
)

select distinct on (gutenberg_id, author_id)
    gutenberg_id,
    author_id,
    position,
    display_name,
    name_key,
    {{ last_name("name_key") }} as last_name,
    {{ first_name("name_key") }} as first_name,
    {{ initials_key("name_key") }} as initials_key,
    known_birth_year as birth_year,
    death_year
from identified
order by gutenberg_id, author_id, position
