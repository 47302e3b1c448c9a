import { html } from '../../runtime/html.ts'
import type { Words } from './words.ts'

export const de: Words = {
  language: 'de',
  goOn: 'Weiter',
  confirm: {
    title: 'Abmelden?',
    heading: 'Überall abmelden?',
    asks: (app) => `${app} möchte Sie abmelden.`,
    signedInAs: (account) => html`Sie sind angemeldet als ${account}.`,
    lost: 'Dieser Browser ist hier nicht mehr angemeldet, die Anmeldung dieser App besteht aber noch. Sie wird beendet, in allen Apps, die mit ihr geöffnet wurden.',
    apps: 'Diese Apps werden in diesem Browser abgemeldet:',
    noApps: 'In diesem Browser ist keine App mit diesem Konto angemeldet.',
    yes: 'Abmelden',
    no: 'Angemeldet bleiben',
  },
  stayed: {
    title: 'Weiterhin angemeldet',
    heading: 'Sie sind weiterhin angemeldet',
    text: 'Es wurde nichts geändert. Sie können in Ihren Apps weiterarbeiten.',
    backTo: (app) => `Zurück zu ${app}`,
  },
  telling: { title: 'Abmeldung', heading: 'Sie werden abgemeldet ...', text: 'Das dauert höchstens drei Sekunden.' },
  signedOut: {
    title: 'Abgemeldet',
    heading: (told, all) => {
      if (all === 0) return 'Sie sind abgemeldet'
      if (told === 0) return 'Sie sind hier abgemeldet'
      if (told < all) return `Sie sind hier abgemeldet und bei ${told} von ${all} Apps`
      return told === 1 ? 'Sie sind bei 1 App abgemeldet' : `Sie sind bei ${told} Apps abgemeldet`
    },
    safe: 'Sie können diese Seite schließen.',
    goesOn: 'Was noch offen ist, läuft von selbst weiter.',
    unknown: 'Wo Ihr Browser uns nicht nachsehen ließ, öffnen Sie die App, um zu sehen, ob Sie abgemeldet sind.',
  },
  marks: {
    told: 'Abgemeldet',
    nothing: 'Dort war niemand angemeldet',
    waiting: 'Wird benachrichtigt ...',
    refused: 'Abgelehnt',
    dead: 'Nicht erreicht',
    unknown: 'Browser ließ uns nicht nachsehen',
  },
  nextTry: {
    seconds: (n) => `Nächster Versuch in ${n} s`,
    minutes: (n) => `Nächster Versuch in ${n} min`,
  },
  error: {
    title: 'Nicht abgemeldet',
    heading: 'Sie wurden nicht abgemeldet',
    unchanged: 'Es wurde nichts geändert: Sie sind angemeldet wie zuvor.',
    uncertain: {
      heading: 'Vielleicht sind Sie noch angemeldet',
      text: 'Melden Sie sich zur Sicherheit noch einmal ab.',
    },
    again: 'Trotzdem abmelden',
    code: 'Code',
    problems: {
      logout_request_invalid: 'Die Anfrage der App war fehlerhaft.',
      logout_request_too_large: 'Die Anfrage ist zu groß.',
      logout_answer_cross_origin: 'Die Antwort kam nicht von dieser Seite.',
      logout_answer_invalid: 'Die Frage ist älter als 15 Minuten.',
      logout_answer_outdated: 'Inzwischen hat sich jemand neu angemeldet.',
      server_error: 'Bei uns ist etwas fehlgeschlagen.',
      receipt_unavailable:
        'Wie es bei den einzelnen Apps ausging, lässt sich gerade nicht anzeigen; sie werden trotzdem benachrichtigt.',
    },
  },
  refusedPrompt: {
    title: 'Nicht möglich',
    heading: 'Das geht hier nicht',
    text: 'Die App hat etwas verlangt, was diese Anmeldung nicht anbietet. Es wurde nichts geändert. Gehen Sie zurück zur App.',
  },
  failed: {
    title: 'Etwas ist fehlgeschlagen',
    heading: 'Bei uns ist etwas fehlgeschlagen',
    text: 'Gehen Sie zurück zur App und versuchen Sie es noch einmal.',
  },
}
