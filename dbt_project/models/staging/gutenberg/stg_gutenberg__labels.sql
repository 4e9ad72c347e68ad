with labels as (
    select
        books.id as gutenberg_id,
        kinds.label_type,
        {{ tidy_text("entries.label #>> '{}'") }} as label_name,
        entries.position,
        books._load_id
    from {{ source("raw", "gutenberg__books") }} as books
    cross join lateral (
        values ('subject', books.subjects), ('bookshelf', books.bookshelves)
    ) as kinds (label_type, labels)
    cross join lateral {{ elements_of("kinds.labels") }} with ordinality as entries (label, position)
),

keyed as materialized (
    select
        gutenberg_id,
        label_type,
        -- "Browsing: Fiction" is the shelf "Fiction" of the site's menu.
        regexp_replace(label_name, '^Browsing: ', '') as label_name,
        {{ fold_text("regexp_replace(label_name, '^Browsing: ', '')") }} as label_key,
        position,
        _load_id
    from labels
    where label_name is not null
)

select distinct on (gutenberg_id, label_type, label_key)
    gutenberg_id,
    label_type,
    label_key,
    label_name,
    position,
    _load_id
from keyed
where label_key != ''
order by gutenberg_id, label_type, label_key, position
