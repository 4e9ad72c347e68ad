select distinct on (books.id, codes.language_code)
    books.id as gutenberg_id,
    codes.language_code,
    codes.position,
    books._load_id
from {{ source("raw", "gutenberg__books") }} as books
cross join lateral (
    select
        {{ language_code("entries.language #>> '{}'") }} as language_code,
        entries.position
    from {{ elements_of("books.languages") }} with ordinality as entries (language, position)
) as codes
where codes.language_code is not null
order by books.id, codes.language_code, codes.position
