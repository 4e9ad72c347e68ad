with catalogue_authors as (
    select * from {{ ref("int_catalogue_authors_keyed") }}
),

catalogued as (
    select
        books.book_id,
        authors.author_id,
        authors.position::integer as position,
        authors.display_name as author_name,
        authors.birth_year,
        authors.death_year
    from {{ ref("int_catalogue_books_grouped") }} as books
    inner join catalogue_authors as authors on books.gutenberg_id = authors.gutenberg_id
    where books.is_primary
),

-- A name, or a name by its initials, that one person of the catalogue has and no other.
people_by_name as (
    select
        name_key,
        min(author_id) as author_id
    from catalogue_authors
    group by name_key
    having count(distinct author_id) = 1
),

people_by_initials as (
    select
        initials_key,
        min(author_id) as author_id
    from catalogue_authors
    group by initials_key
    having count(distinct author_id) = 1
),

people as (
    select distinct on (author_id)
        author_id,
        display_name as author_name,
        birth_year,
        death_year
    from catalogue_authors
    order by author_id, death_year nulls last, gutenberg_id
),

of_the_shop as (
    select
        matched.book_id,
        known.author_display_name,
        known.author_key,
        coalesce(
            people_by_name.author_id,
            -- Initials speak for a name only where the shop gives nothing but initials.
            case when known.author_key ~ '^([^ ] )+[^ ]+$' then people_by_initials.author_id end
        ) as known_author_id
    from {{ ref("int_products_matched") }} as matched
    inner join {{ ref("int_products_known") }} as known on matched.product_id = known.product_id
    left join people_by_name on known.author_key = people_by_name.name_key
    left join people_by_initials on known.author_initials_key = people_by_initials.initials_key
    where matched.is_anchor and known.author_key is not null
),

shop as (
    select
        of_the_shop.book_id,
        coalesce(people.author_id, {{ surrogate_key(["of_the_shop.author_key", "null::integer"]) }}) as author_id,
        1 as position,
        coalesce(people.author_name, of_the_shop.author_display_name) as author_name,
        people.birth_year,
        people.death_year
    from of_the_shop
    left join people on of_the_shop.known_author_id = people.author_id
)

select * from catalogued
union all
select * from shop
