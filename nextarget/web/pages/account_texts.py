"""The texts of the account page. They are part of `texts.TEXTS`."""

ACCOUNT_TEXTS = {
    "account_title": {"en": "Your account", "fr": "Votre compte"},
    "account_delete_title": {"en": "Delete your account", "fr": "Supprimer votre compte"},
    "account_place": {"en": "the page of your account", "fr": "la page de votre compte"},
    "account_open": {"en": "Open the page of your account", "fr": "Ouvrir la page de votre compte"},
    "moment": {"en": "{day} at {clock} UTC", "fr": "{day} à {clock} UTC"},
    "account_lead": {
        "en": "Here you can see what {service} keeps about you, end your sessions, and delete your account. You need "
        "no app for this.",
        "fr": "Vous pouvez voir ici ce que {service} conserve à votre sujet, fermer vos sessions et supprimer votre "
        "compte. Aucune application n'est nécessaire.",
    },
    "account_apps": {
        "en": "The account is for these apps: {apps}.",
        "fr": "Le compte sert à ces applications\u00a0: {apps}.",
    },
    "account_step_sign_in": {
        "en": "Sign in below, in the same way as in the app.",
        "fr": "Connectez-vous ci-dessous, de la même façon que dans l'application.",
    },
    "account_step_look": {"en": "See what is kept.", "fr": "Voyez ce qui est conservé."},
    "account_step_delete": {
        "en": "Choose “Delete your account”, and confirm. It is deleted at once.",
        "fr": "Choisissez «\u00a0Supprimer votre compte\u00a0», et confirmez. La suppression est immédiate.",
    },
    "account_what_goes_title": {"en": "What is deleted", "fr": "Ce qui est supprimé"},
    "account_what_goes": {
        "en": "Deleted at once: your email address, the provider that you sign in with, all sessions, and the record "
        "of your sign-ins. You are signed out everywhere.",
        "fr": "Sont supprimés immédiatement\u00a0: votre adresse e-mail, le fournisseur avec lequel vous vous "
        "connectez, toutes les sessions et l'historique de vos connexions. Vous êtes déconnecté partout.",
    },
    "account_what_stays": {
        "en": "What stays, for {days} days at most: a note that an account with a random number was deleted. It does "
        "not say whose it was. Backup copies can hold your data until they are replaced.",
        "fr": "Ce qui reste, au plus {days} jours\u00a0: une note disant qu'un compte portant un numéro aléatoire a "
        "été supprimé. Elle ne dit pas à qui il était. Des copies de sauvegarde peuvent contenir vos données jusqu'à "
        "leur remplacement.",
    },
    "account_elsewhere": {
        "en": "An app may keep data of its own about you. Its privacy policy says what, and how to have it deleted.",
        "fr": "Une application peut conserver ses propres données à votre sujet. Sa politique de confidentialité dit "
        "lesquelles, et comment les faire supprimer.",
    },
    "account_kept": {
        "en": "This is what {service} keeps about you, beside a record of your sign-ins.",
        "fr": "Voici ce que {service} conserve à votre sujet, outre l'historique de vos connexions.",
    },
    "account_email": {"en": "Email address", "fr": "Adresse e-mail"},
    "account_no_email": {"en": "none", "fr": "aucune"},
    "account_provider": {"en": "You sign in with", "fr": "Vous vous connectez avec"},
    "account_since": {"en": "Account since", "fr": "Compte ouvert le"},
    "account_sessions_title": {"en": "Your sessions", "fr": "Vos sessions"},
    "account_sessions_lead": {
        "en": "You are signed in on these devices. If you do not know one of them, end its session.",
        "fr": "Vous êtes connecté sur ces appareils. Si vous n'en reconnaissez pas un, fermez sa session.",
    },
    "account_no_sessions": {
        "en": "You are not signed in to any app.",
        "fr": "Vous n'êtes connecté à aucune application.",
    },
    "account_unnamed": {"en": "Device without a name", "fr": "Appareil sans nom"},
    "account_session_since": {"en": "since {moment}", "fr": "depuis le {moment}"},
    "account_end": {"en": "End", "fr": "Fermer"},
    "account_end_this": {
        "en": "End the session: {device}, since {moment}",
        "fr": "Fermer la session\u00a0: {device}, depuis le {moment}",
    },
    "account_end_all": {"en": "End all sessions", "fr": "Fermer toutes les sessions"},
    "account_sign_out": {"en": "Sign out of this page", "fr": "Se déconnecter de cette page"},
    "account_ten_minutes": {
        "en": "You are signed in on this page for ten minutes. On a shared computer, sign out when you are done.",
        "fr": "Vous êtes connecté à cette page pour dix minutes. Sur un ordinateur partagé, déconnectez-vous quand "
        "vous avez terminé.",
    },
    "account_delete_whose": {
        "en": "You are about to delete this account at {service}: {who}.",
        "fr": "Vous allez supprimer ce compte chez {service}\u00a0: {who}.",
    },
    "account_delete_final": {
        "en": "Nobody can bring a deleted account back.",
        "fr": "Personne ne peut rétablir un compte supprimé.",
    },
    "account_delete_now": {"en": "Delete the account now", "fr": "Supprimer le compte maintenant"},
    "account_keep": {"en": "Keep the account", "fr": "Garder le compte"},
    "account_none_title": {"en": "No account here", "fr": "Aucun compte ici"},
    "account_none": {
        "en": "You signed in with {provider}, but {service} has no account for you. Nothing is kept about you, and "
        "none was made now.",
        "fr": "Vous vous êtes connecté avec {provider}, mais {service} n'a pas de compte pour vous. Rien n'est "
        "conservé à votre sujet, et aucun compte n'a été créé maintenant.",
    },
    "account_none_other": {
        "en": "Do you use the app with another provider, or with another email address? Then sign in with that one.",
        "fr": "Utilisez-vous l'application avec un autre fournisseur, ou avec une autre adresse\u00a0? Alors "
        "connectez-vous avec celui-là.",
    },
    "account_none_again": {"en": "Sign in another way", "fr": "Se connecter autrement"},
}
