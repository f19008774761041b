"""The settings of the providers, one file for a provider. These files import no network code, so they load fast."""
