with people as (
    select
        books.id as gutenberg_id,
        roles.role,
        entries.position,
        {{ tidy_text("entries.person ->> 'name'") }} as written_name,
        {{ year_of("entries.person ->> 'birth_year'") }} as birth_year,
        {{ year_of("entries.person ->> 'death_year'") }} as death_year,
        books._load_id
    from {{ source("raw", "gutenberg__books") }} as books
    cross join lateral (
        values ('author', books.authors), ('translator', books.translators), ('editor', books.editors)
    ) as roles (role, people)
    cross join lateral {{ elements_of("roles.people") }} with ordinality as entries (person, position)
)

select
    gutenberg_id,
    role,
    position,
    written_name,
    {{ display_name("written_name") }} as display_name,
    birth_year,
    death_year,
    _load_id
from people
where written_name is not null
