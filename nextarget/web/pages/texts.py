"""The texts of the pages in all languages. Every text exists in English."""

from dataclasses import dataclass

from nextarget.errors import ProblemError
from nextarget.web.pages.account_texts import ACCOUNT_TEXTS

LANGUAGES = ("en", "fr")
MONTHS = {
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    "fr": (
        *("janvier", "février", "mars", "avril", "mai", "juin"),
        *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
    ),
}

TEXTS = {
    "choose_title": {"en": "Sign in", "fr": "Connexion"},
    "choose_lead": {
        "en": "An app wants to sign you in. Continue only if you asked it to.",
        "fr": "Une application souhaite vous connecter. Continuez seulement si vous le lui avez demandé.",
    },
    "choose_lead_named": {
        "en": "{name} wants to sign you in. Continue only if you asked it to.",
        "fr": "{name} souhaite vous connecter. Continuez seulement si vous le lui avez demandé.",
    },
    "continue_with": {"en": "Continue with {name}", "fr": "Continuer avec {name}"},
    "not_answering": {
        "en": "{name} is not answering at the moment. Load this page again in half a minute.",
        "fr": "{name} ne répond pas pour le moment. Rechargez cette page dans une demi-minute.",
    },
    "load_again": {"en": "Load this page again", "fr": "Recharger cette page"},
    "none_configured": {
        "en": "No way to sign in is configured on this service yet. Tell its operator.",
        "fr": "Aucun moyen de connexion n'est encore configuré sur ce service. Signalez-le à son responsable.",
    },
    "not_you": {
        "en": "You did not ask to sign in? Then close this page: nothing has happened.",
        "fr": "Vous n'avez pas demandé à vous connecter\u00a0? Fermez cette page\u00a0: rien ne s'est passé.",
    },
    "finished_title": {"en": "Sign-in finished", "fr": "Connexion terminée"},
    "finished_lead": {
        "en": "This sign-in is finished. You can close this page.",
        "fr": "Cette connexion est terminée. Vous pouvez fermer cette page.",
    },
    "try_again": {"en": "Try again", "fr": "Réessayer"},
    "back_to_app": {"en": "Back to the app", "fr": "Retour à l'application"},
    "back_to_named": {"en": "Back to {name}", "fr": "Retour à {name}"},
    "finished_named": {
        "en": "{name} still waits? Then go back to it here, and sign in again.",
        "fr": "{name} attend encore\u00a0? Alors revenez-y par ici, et reconnectez-vous.",
    },
    "finished_app": {
        "en": "The app still waits? Then go back to it here, and sign in again.",
        "fr": "L'application attend encore\u00a0? Alors revenez-y par ici, et reconnectez-vous.",
    },
    "finished_site": {
        "en": "You are not signed in where you came from? Then go back there, and sign in again.",
        "fr": "Vous n'êtes pas connecté là d'où vous venez\u00a0? Alors retournez-y, et reconnectez-vous.",
    },
    "bounce_title": {"en": "Almost done", "fr": "Presque terminé"},
    "bounce_lead_named": {
        "en": "Open {name} within a minute to finish your sign-in.",
        "fr": "Ouvrez {name} dans la minute pour terminer votre connexion.",
    },
    "bounce_lead": {
        "en": "Open the app within a minute to finish your sign-in.",
        "fr": "Ouvrez l'application dans la minute pour terminer votre connexion.",
    },
    "open_named": {"en": "Open {name}", "fr": "Ouvrir {name}"},
    "open_app": {"en": "Open the app", "fr": "Ouvrir l'application"},
    "bounce_fine_named": {
        "en": "Nothing happens? Open {name} yourself, and sign in again. If that does not help, use another browser.",
        "fr": "Rien ne se passe\u00a0? Ouvrez {name} vous-même, et reconnectez-vous. Si cela n'aide pas, prenez un "
        "autre navigateur.",
    },
    "bounce_fine": {
        "en": "Nothing happens? Open the app yourself, and sign in again. If that does not help, use another browser.",
        "fr": "Rien ne se passe\u00a0? Ouvrez l'application vous-même, et reconnectez-vous. Si cela n'aide pas, prenez "
        "un autre navigateur.",
    },
    "deletion_title": {"en": "Deletion of your data", "fr": "Suppression de vos données"},
    "deletion_done": {
        "en": "Your account here, with everything kept about you, was deleted on {day}.",
        "fr": "Votre compte et tout ce qui était conservé à votre sujet ont été supprimés le {day}.",
    },
    "deletion_without_account": {
        "en": "On {day} you had no account here: there was nothing to delete.",
        "fr": "Le {day}, vous n'aviez pas de compte ici\u00a0: il n'y avait rien à supprimer.",
    },
    "deletion_older": {
        "en": "Your request is older than your account, which was therefore not deleted on {day}. To delete it, ask "
        "again.",
        "fr": "Votre demande est antérieure à votre compte, qui n'a donc pas été supprimé le {day}. Pour le supprimer, "
        "refaites une demande.",
    },
    "deletion_rest": {
        "en": "This page shows nothing else about you. You can close it.",
        "fr": "Cette page ne montre rien d'autre à votre sujet. Vous pouvez la fermer.",
    },
    "privacy": {"en": "Privacy policy", "fr": "Politique de confidentialité"},
    "terms": {"en": "Terms of service", "fr": "Conditions d'utilisation"},
    "code": {"en": "Code", "fr": "Code"},
    "technical": {"en": "For developers", "fr": "Pour les développeurs"},
    "request": {"en": "Request", "fr": "Requête"},
    **ACCOUNT_TEXTS,
}

_PLACE = {"en": "the app or site you came from", "fr": "l'application ou au site d'où vous venez"}
"""The place that the person came from, if the app is not known."""

_MINUTE = {"en": "a minute", "fr": "une minute"}

NEXT_STEPS = {
    "again": {
        "en": "Go back to {place}, and sign in again.",
        "fr": "Retournez à {place}, et reconnectez-vous.",
    },
    "later": {
        "en": "Wait {wait}, then go back to {place} and try again.",
        "fr": "Patientez {wait}, puis retournez à {place} et réessayez.",
    },
    "again_here": {
        "en": "Try again here, or go back to {place}.",
        "fr": "Réessayez ici, ou retournez à {place}.",
    },
    "later_here": {
        "en": "Wait {wait}, then try again here, or go back to {place}.",
        "fr": "Patientez {wait}, puis réessayez ici, ou retournez à {place}.",
    },
    "other": {
        "en": "Go back to {place}, and choose another way to sign in.",
        "fr": "Retournez à {place}, et choisissez un autre moyen de connexion.",
    },
    "cookies": {
        "en": "Delete the cookies of this site and of its parent domain in your browser, or open a private window. "
        "Then go back to {place}, and sign in again.",
        "fr": "Supprimez les cookies de ce site et de son domaine parent dans votre navigateur, ou ouvrez une fenêtre "
        "privée. Puis retournez à {place}, et reconnectez-vous.",
    },
    "address": {
        "en": "Check the address, or go back to {place}.",
        "fr": "Vérifiez l'adresse, ou retournez à {place}.",
    },
    "open": {"en": "Load this page again.", "fr": "Rechargez cette page."},
    "account": {"en": "Go back to {place}, and try again.", "fr": "Retournez à {place}, et réessayez."},
    "close": {"en": "You can close this page.", "fr": "Vous pouvez fermer cette page."},
    "beware": {
        "en": "Close this page. If you came from an app that you trust, tell its developers.",
        "fr": "Fermez cette page. Si vous veniez d'une application de confiance, signalez-le à ceux qui la font.",
    },
    "help": {
        "en": "Try again. If it happens again, send the request number below to the operator of this service.",
        "fr": "Réessayez. Si cela se reproduit, envoyez le numéro de requête ci-dessous au responsable du service.",
    },
}

_STEPS = {
    "deletion_unknown": "close",
    "not_found": "address",
    "form_refused": "account",
    "provider_not_configured": "other",
    "user_deactivated": "close",
    "prefetch_refused": "open",
    "header_fields_too_large": "cookies",
    "redirect_refused": "beware",
    "internal_error": "help",
}
_HERE = {"again": "again_here", "later": "later_here"}
"""The steps that are different on a page with a link to try again."""
"""What a person should do next after an error, if it is neither to wait nor to sign in again."""

FRENCH = {
    "invalid_state": (
        "Tentative de connexion inconnue",
        "Cette tentative de connexion a expiré, a déjà servi, ou a commencé dans un autre navigateur.",
    ),
    "login_expired": ("Connexion trop longue", "Cette connexion a pris plus de dix minutes."),
    "sign_in_ended": (
        "Connexion interrompue",
        "Toutes les sessions de ce compte ont été fermées après le début de cette connexion.",
    ),
    "provider_refused": (
        "Connexion refusée par le fournisseur",
        "Le fournisseur n'accepte plus cette tentative de connexion.",
    ),
    "access_denied": ("Connexion annulée", "La connexion a été annulée chez le fournisseur."),
    "user_deactivated": (
        "Compte désactivé",
        "Ce compte a été désactivé. Demandez au responsable de ce service de le réactiver.",
    ),
    "visit_ended": (
        "Non connecté sur cette page",
        "Vous n'êtes pas connecté à la page de votre compte, ou vous ne l'êtes plus. Rien n'a été modifié.",
    ),
    "form_refused": (
        "Formulaire refusé",
        "Ce formulaire est périmé, ou a été envoyé par un autre site. Rien n'a été modifié.",
    ),
    "prefetch_refused": (
        "Demandé avant votre visite",
        "Votre navigateur a demandé cette page avant que vous ne l'ouvriez.",
    ),
    "provider_not_configured": (
        "Moyen de connexion indisponible",
        "La connexion avec ce fournisseur n'est pas configurée sur ce service.",
    ),
    "provider_failed": (
        "Réponse inutilisable du fournisseur",
        "La réponse du fournisseur n'a pas pu être utilisée.",
    ),
    "identity_rejected": (
        "Identité non vérifiée",
        "Ce que le fournisseur dit de la personne connectée n'a pas pu être vérifié.",
    ),
    "provider_unavailable": ("Fournisseur injoignable", "Le fournisseur ne répond pas pour le moment."),
    "not_found": ("Page introuvable", "Il n'y a rien à cette adresse."),
    "deletion_unknown": (
        "Demande inconnue",
        "Aucune demande de suppression ne porte ce code. Un code est conservé cent quatre-vingts jours.",
    ),
    "database_unavailable": ("Service indisponible", "Ce service ne peut pas répondre pour le moment."),
    "redirect_refused": (
        "Application inconnue",
        "L'application qui vous a envoyé ici n'est pas connue de ce service\u00a0: personne n'a été connecté.",
    ),
    "rate_limited": (
        "Trop de tentatives",
        "Trop de demandes sont venues depuis votre réseau en une minute.",
    ),
    "header_fields_too_large": (
        "Trop de cookies",
        "Votre navigateur envoie plus de cookies que ce service n'en accepte. D'autres sites du même domaine les ont "
        "déposés.",
    ),
    "internal_error": ("Erreur interne", "Quelque chose a échoué de notre côté."),
}
_ENGLISH = {
    "not_found": ("Page not found", "There is nothing at this address."),
    "rate_limited": ("Too many attempts", "Too many requests came from your network within one minute."),
    "header_fields_too_large": (
        "Too many cookies",
        "Your browser sends more cookies than this service takes. Other sites of the same domain have set them.",
    ),
}
"""Texts for errors that a person can cause without a mistake of the app, but whose own sentence is for developers."""

_FOR_PROGRAMS = {
    "en": ("Invalid request", "The address that led here is wrong or incomplete."),
    "fr": ("Requête incorrecte", "L'adresse qui a mené ici est incorrecte ou incomplète."),
}
"""For errors whose own sentence is for developers: only a program can cause them."""


@dataclass(frozen=True, slots=True)
class ErrorTexts:
    """The texts of an error page. `technical` is the error's own sentence, if that is for developers."""

    title: str
    explanation: str
    next_step: str
    technical: str | None


def text(name: str, /, language: str, **facts: str) -> str:
    return TEXTS[name][language].format(**facts)


def error_texts(error: ProblemError, language: str, name: str | None = None, *, repeatable: bool = False) -> ErrorTexts:
    """The texts about an error, for a person who came from the app `name` (None if it is not known). `repeatable` is
    whether the page has a link to try again."""
    step = "later" if error.retryable else _STEPS.get(error.code, "again")
    technical = None
    if error.code not in FRENCH:
        (title, explanation), technical = _FOR_PROGRAMS[language], error.detail
    elif language == "fr":
        title, explanation = FRENCH[error.code]
    else:
        title, explanation = _ENGLISH.get(error.code, (error.title, error.detail))
    if repeatable:
        step = _HERE.get(step, step)
    return ErrorTexts(title, explanation, next_step(step, language, name, seconds=error.retry_after), technical)


def next_step(step: str, language: str, name: str | None = None, *, seconds: int | None = None) -> str:
    """What a person should do next who came from the app `name` (None if it is not known), after some seconds."""
    minutes = -(-(seconds or 0) // 60)
    wait = _MINUTE[language] if minutes <= 1 else f"{minutes} minutes"
    return NEXT_STEPS[step][language].format(place=name or _PLACE[language], wait=wait)
