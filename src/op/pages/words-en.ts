import { html } from '../../runtime/html.ts'
import type { Words } from './words.ts'

export const en: Words = {
  language: 'en',
  goOn: 'Continue',
  confirm: {
    title: 'Sign out?',
    heading: 'Sign out everywhere?',
    asks: (app) => `${app} asks to sign you out.`,
    signedInAs: (account) => html`You are signed in as ${account}.`,
    lost: 'This browser is not signed in here any more, but the sign-in of that app lives on. It will be ended, in every app that was opened with it.',
    apps: 'These apps will be signed out in this browser:',
    noApps: 'No app is signed in with this account in this browser.',
    yes: 'Sign out',
    no: 'Stay signed in',
  },
  stayed: {
    title: 'Still signed in',
    heading: 'You are still signed in',
    text: 'Nothing was changed. You can go on in your apps.',
    backTo: (app) => `Back to ${app}`,
  },
  telling: { title: 'Signing out', heading: 'Signing you out ...', text: 'This takes three seconds at most.' },
  signedOut: {
    title: 'Signed out',
    heading: (told, all) => {
      if (all === 0) return 'You are signed out'
      if (told === 0) return 'You are signed out here'
      if (told < all) return `You are signed out here, and of ${told} of ${all} apps`
      return told === 1 ? 'You are signed out of 1 app' : `You are signed out of ${told} apps`
    },
    safe: 'It is safe to leave this page.',
    goesOn: 'Whatever is still open goes on by itself.',
    unknown: 'Where your browser did not let us check, open the app to see whether it signed you out.',
  },
  marks: {
    told: 'Signed out',
    nothing: 'Found nobody to sign out',
    waiting: 'Telling ...',
    refused: 'Refused',
    dead: 'Not reached',
    unknown: 'Browser did not let us check',
  },
  nextTry: { seconds: (n) => `Next try in ${n} s`, minutes: (n) => `Next try in ${n} min` },
  error: {
    title: 'Not signed out',
    heading: 'You were not signed out',
    unchanged: 'Nothing was changed: you are as signed in as before.',
    uncertain: { heading: 'You may still be signed in', text: 'Sign out once more to be sure.' },
    again: 'Sign out all the same',
    code: 'Code',
    problems: {
      logout_request_invalid: "The app's request was not right.",
      logout_request_too_large: 'The request is too large.',
      logout_answer_cross_origin: 'The answer did not come from this page.',
      logout_answer_invalid: 'The question is older than 15 minutes.',
      logout_answer_outdated: 'Somebody signed in again in the meantime.',
      server_error: 'Something failed on our side.',
      receipt_unavailable: 'How each app took it cannot be shown right now; they are being told all the same.',
    },
  },
  refusedPrompt: {
    title: 'Not possible',
    heading: 'This cannot be done here',
    text: 'The app asked for something that this sign-in does not offer. Nothing was changed. Go back to the app.',
  },
  failed: {
    title: 'Something failed',
    heading: 'Something failed on our side',
    text: 'Go back to the app and try once more.',
  },
}
