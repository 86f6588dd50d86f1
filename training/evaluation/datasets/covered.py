"""Which languages a test set has, and which of them others were measured on.

Names of the sets are those of their publishers' own programs; the languages of SeamlessM4T are those of the table that
its publishers keep with the model (large, v1 and v2), those of Whisper the ones of `languages.tsv`, without what came
with large-v3. Nothing here was taken from a result.
"""

from collections.abc import Iterable

from seamlessalign.errors import ConfigError
from seamlessalign.languages import find_language, to_model_code


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# FLEURS's own names: language, script where there are two, region
FLEURS = _codes(
    """
    af_za am_et ar_eg as_in ast_es az_az be_by bg_bg bn_in bs_ba ca_es ceb_ph ckb_iq cmn_hans_cn cs_cz cy_gb
    da_dk de_de el_gr en_us es_419 et_ee fa_ir ff_sn fi_fi fil_ph fr_fr ga_ie gl_es gu_in ha_ng he_il hi_in
    hr_hr hu_hu hy_am id_id ig_ng is_is it_it ja_jp jv_id ka_ge kam_ke kea_cv kk_kz km_kh kn_in ko_kr ky_kg
    lb_lu lg_ug ln_cd lo_la lt_lt luo_ke lv_lv mi_nz mk_mk ml_in mn_mn mr_in ms_my mt_mt my_mm nb_no ne_np nl_nl
    nso_za ny_mw oc_fr om_et or_in pa_in pl_pl ps_af pt_br ro_ro ru_ru sd_in sk_sk sl_si sn_zw so_so sr_rs sv_se
    sw_ke ta_in te_in tg_tj th_th tr_tr uk_ua umb_ao ur_pk uz_uz vi_vn wo_sn xh_za yo_ng yue_hant_hk zu_za
    """
)

# Common Voice's names of the languages that CoVoST 2 translates into English, and from it
COVOST_TO_ENGLISH = _codes("fr de es ca it ru zh-CN pt fa et mn nl tr ar sv-SE lv sl ta ja id cy")
COVOST_FROM_ENGLISH = _codes("de tr fa sv-SE mn zh-CN cy ca sl et id ar ta lv ja")

# CVSS's names of the same, beside Common Voice's
CVSS = {code.partition("-")[0]: code for code in COVOST_TO_ENGLISH}

_M4T_SPEECH_AND_TEXT = frozenset(
    _codes(
        """
        arb ben cat ces cmn cym dan deu eng est fin fra hin ind ita jpn kor mlt nld pes pol por ron rus slk spa
        swe swh tel tgl tha tur ukr urd uzn vie
        """
    )
)
_M4T_TEXT = frozenset(  # zlm: zsm there, one language here
    _codes(
        """
        afr amh ary arz asm azj bel bos bul ceb ckb ell eus fuv gaz gle glg guj heb hrv hun hye ibo isl jav kan
        kat kaz khk khm kir lao lit lug luo lvs mai mal mar mkd mni mya nno nob npi nya ory pan pbt slv sna snd
        som srp tam tgk yor yue zlm zul
        """
    )
)
_M4T_HEARD_ONLY = frozenset(_codes("ast kam kea ltz oci xho"))

LISTS = ("seamlessm4t", "whisper")


def covered(name: str, *, speech_in: bool, source: bool, speech_out: bool) -> frozenset[str]:
    """Languages (ISO 639-3) that a system of this name takes as a source, or gives as a target.

    speech_in: a source is speech; speech_out: a target is. Raises ConfigError for another name.
    """
    if name == "seamlessm4t":
        if source:
            text = _M4T_SPEECH_AND_TEXT | _M4T_TEXT
            return text | _M4T_HEARD_ONLY if speech_in else text
        return _M4T_SPEECH_AND_TEXT if speech_out else _M4T_SPEECH_AND_TEXT | _M4T_TEXT
    if name == "whisper":  # hears all of its languages, writes them, and translates into English
        known = {find_language(code).iso639_3 for code in FLEURS}
        return frozenset(lang for lang in known if to_model_code(lang, "whisper") and lang != "yue")
    raise ConfigError(f"languages {name!r}: is none of the lists {', '.join(LISTS)}; or give codes")


def languages_of(names: Iterable[str]) -> dict[str, str]:
    """Names of a test set → ISO 639-3. Raises ConfigError for a language that the project does not know."""
    return {name: find_language(name).iso639_3 for name in names}
