select
    id as gutenberg_id,
    -- A line break in a catalogued title stands before the subtitle.
    {{ tidy_text("regexp_replace(title, '\s*[:;]?\s*[\\r\\n]+\s*', ': ', 'g')") }} as title,
    {{ language_code("languages ->> 0") }} as language_code,
    copyright as is_copyrighted,
    {{ tidy_text("media_type") }} as media_type,
    case when download_count >= 0 then download_count end as download_count,
    issued as issued_date,
    updated_at as source_updated_at,
    coalesce(withdrawn, false) as is_withdrawn,
    {{ tidy_text("summaries ->> 0") }} as summary,
    formats ->> 'image/jpeg' as cover_url,
    formats ->> 'application/epub+zip' as epub_url,
    _load_id
from {{ source("raw", "gutenberg__books") }}
