{# ISO 639-1 code of a language that is written as a code or as its English name; NULL for what isn't known. #}
{% macro language_code(expression) -%}
    {%- set names = {
        "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "czech": "cs", "danish": "da", "dutch": "nl", "english": "en",
        "esperanto": "eo", "finnish": "fi", "french": "fr", "german": "de", "greek": "el", "hungarian": "hu", "irish": "ga",
        "icelandic": "is", "italian": "it", "japanese": "ja", "latin": "la", "norwegian": "no", "polish": "pl",
        "portuguese": "pt", "romanian": "ro", "russian": "ru", "spanish": "es", "swedish": "sv", "tagalog": "tl",
        "welsh": "cy",
    } -%}
    case lower(btrim({{ expression }}))
        {%- for name, code in names.items() %}
        when '{{ name }}' then '{{ code }}'
        {%- endfor %}
        else substring(lower(btrim({{ expression }})) from '^[a-z]{2}$')
    end
{%- endmacro %}
