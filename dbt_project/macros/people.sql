{#
    Names of people, as catalogues ("Carroll, Lewis (Charles Dodgson), 1832-1898") and shops ("L. Carroll") write them.
    docs/models.md explains what is compared.
#}

{# A name as one says it: "First Last", with Jr. and Saint, without brackets, years and ranks. #}
{% macro display_name(expression) -%}
    (
        select
            {{ bindery.tidy_text("case
                when given = '' then family
                -- \"Horatio Alger, Jr.\" isn't turned round.
                when given ~* '^(jr|sr|ii|iii|iv|esq|père|fils)\.?$' then family || ' ' || given
                -- \"Augustine, Saint\"; a longer rank (\"Marcus Aurelius, Emperor of Rome\") is left out.
                when given ~* '^(saint|st\.?|pope|sir|dame|lady|lord)$' then given || ' ' || family
                when given ~* '^(saint|pope|sir|emperor|empress|king|queen|prince|princess|duke|duchess|earl|count|baron)\M'
                    then family
                -- \"Orczy, Emmuska Orczy, Baroness\" says the family's name twice.
                when given = family or right(given, length(family) + 1) = ' ' || family then given
                else given || ' ' || family
            end || case when rank ~* '^(jr|sr|ii|iii|iv|père|fils)\.?$' then ' ' || rank else '' end") }}
        from (
            select
                btrim(split_part(plain, ',', 1)) as family,
                btrim(split_part(plain, ',', 2)) as given,
                btrim(split_part(plain, ',', 3)) as rank
            -- `limit 1` keeps Postgres from computing each part once for every time that it is named.
            from (
                select
                    regexp_replace(
                        regexp_replace({{ expression }}, '\s*[(\[][^)\]]*[)\]]', '', 'g'),
                        ',\s*(b\.|d\.|ca\.|active)?\s*-?\d{2,4}\??(\s*(bce?|ad))?(\s*[-\u2013]\s*\d{0,4}\??(\s*(bce?|ad))?)?\s*$', '', 'i'
                    ) as plain
                limit 1
            ) as without_years
            limit 1
        ) as parts
    )
{%- endmacro %}


{# The folded name without titles: "sir walter scott" and "Scott, Walter, Sir" are "walter scott". NULL where nobody is named. #}
{% macro name_key(display_name) -%}
    (
        select
            case
                when folded not in ('', 'anonymous', 'anon', 'various', 'various authors', 'unknown', 'unknown author', 'n a')
                    then regexp_replace(
                        regexp_replace(
                            folded, '^((saint|st|sir|dame|lady|lord|dr|mr|mrs|miss|rev|pope|baron|graf) )+(?=\S)', ''
                        ),
                        '(?<=\S) (jr|sr|ii|iii|iv|esq|pere|fils)$', ''
                    )
            end
        from (select {{ bindery.fold_text(display_name) }} as folded limit 1) as name
    )
{%- endmacro %}


{# Family name: the last word. #}
{% macro last_name(name_key) -%}
    split_part({{ name_key }}, ' ', -1)
{%- endmacro %}


{# First given name or its initial; NULL for who has one name alone ("Homer"). #}
{% macro first_name(name_key) -%}
    case when {{ name_key }} like '% %' then split_part({{ name_key }}, ' ', 1) end
{%- endmacro %}


{# Family name and all initials: "fanu js" for Joseph Sheridan Le Fanu would lose the "Le", so it is "fanu jsl". #}
{% macro initials_key(name_key) -%}
    split_part({{ name_key }}, ' ', -1) || ' '
    || regexp_replace(regexp_replace({{ name_key }}, '[^ ]+$', ''), '([^ ])[^ ]* ', '\1', 'g')
{%- endmacro %}


{# Whether two first names can be one person's: equal, or one is the other's initial, or both are missing. #}
{% macro first_names_agree(one, other) -%}
    (
        {{ one }} is not distinct from {{ other }}
        or (least(length({{ one }}), length({{ other }})) = 1 and left({{ one }}, 1) = left({{ other }}, 1))
    )
{%- endmacro %}
