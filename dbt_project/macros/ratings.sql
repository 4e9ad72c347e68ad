{#
    Before an incremental run of fct_ratings: removes ratings that are no longer among the valid ones, so that what a
    reader had erased, or a correction made invalid, is gone from the mart too. One hash join; nothing is written where
    nothing vanished.
#}
{% macro forget_vanished_ratings() -%}
    {%- if is_incremental() -%}
        delete from {{ this }} as known
        where not exists (
            select 1
            from {{ ref("stg_uploads__ratings") }} as ratings
            where ratings.user_id = known.user_id and ratings.gutenberg_id = known.gutenberg_id and ratings.is_valid
        )
    {%- endif -%}
{%- endmacro %}
