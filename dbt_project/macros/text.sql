{#
    Text made comparable. Postgres has no unaccent here, and in collation C lower() knows ASCII alone and [[:alnum:]] does
    not know é: so letters are folded by Unicode decomposition and tables of our own. docs/models.md explains the keys.
#}

{# Trims, joins white space, and makes '' NULL. #}
{% macro tidy_text(expression) -%}
    nullif(btrim(regexp_replace({{ expression }}, '\s+', ' ', 'g')), '')
{%- endmacro %}


{#
    Words in lower case, without accents and punctuation, one space between them: "L’Éducation  sentimentale!" becomes
    "leducation sentimentale". Letters outside Latin stay; Greek and Cyrillic capitals are lowered too.
#}
{% macro fold_text(expression) -%}
    (
        select
            btrim(regexp_replace(
                replace(
                    regexp_replace(
                        case
                            -- ASCII alone: three times faster without the tables.
                            when octet_length(written) = char_length(written) then lower(written)
                            else replace(replace(replace(replace(
                                lower(translate(
                                    regexp_replace(normalize(written, nfkd), '[\u0300-\u036f]', '', 'g'),
                                    'ØøÐðĐđŁłĦħıÆŒÞẞΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩςАБВГДЕЖЗИКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ',
                                    'ooddddllhhiæœþßαβγδεζηθικλμνξοπρστυφχψωσабвгдежзиклмнопрстуфхцчшщъыьэюя'
                                )),
                                'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th')
                        end,
                        '[''\u2018\u2019\u201b\u02b9\u02bb\u02bc\u0060]', '', 'g'
                    ),
                    '&', ' and '
                ),
                '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u00d7\u00f7\u2000-\u206f\u2190-\u2bff\u3000-\u303f]+',
                ' ', 'g'
            ))
        -- `limit 1` keeps Postgres from computing the expression once for every time that it is named.
        from (select {{ expression }} as written limit 1) as source
    )
{%- endmacro %}


{# Articles that cataloguers drop, move behind a comma or put in front. #}
{% macro articles() -%}
    the|a|an|le|la|les|un|une|der|die|das|ein|eine|el|los|las|il|gli|het|een
{%- endmacro %}


{# What two spellings of one title have in common: folded, without its article, wherever that stood. NULL for nothing. #}
{% macro title_key(expression) -%}
    nullif(regexp_replace(
        {{ bindery.fold_text(
            "regexp_replace(regexp_replace(" ~ expression ~ ", '^(.*\S),\s*(" ~ bindery.articles() ~ "|l[''\u2019])\s*$', '\\2 \\1', 'i'), "
            ~ "'^\s*l[''\u2019]\s*', '', 'i')"
        ) }},
        '^({{ bindery.articles() }}) (?=\S)', ''
    ), '')
{%- endmacro %}


{#
    A title without its subtitle: up to a line break, a colon, a semicolon, a dash between spaces, a bracket, or ", or".
    A title that starts with one of them stays whole.
#}
{% macro main_title(expression) -%}
    coalesce(
        nullif(btrim(regexp_replace(
            {{ expression }},
            '\s*([\n\r:;(\[]|\s[\u2013\u2014-]\s|\u2014|,\s+(or|ou|oder|ossia)\M).*$', '', 'i'
        )), ''),
        {{ expression }}
    )
{%- endmacro %}
