import { html } from '../../runtime/html.ts'
import type { Words } from './words.ts'

export const fr: Words = {
  language: 'fr',
  goOn: 'Continuer',
  confirm: {
    title: 'Se déconnecter ?',
    heading: 'Se déconnecter partout ?',
    asks: (app) => `${app} demande à vous déconnecter.`,
    signedInAs: (account) => html`Vous êtes connecté en tant que ${account}.`,
    lost: 'Ce navigateur n’est plus connecté ici, mais la connexion de cette application existe encore. Elle sera fermée, dans toutes les applications ouvertes avec elle.',
    apps: 'Ces applications seront déconnectées dans ce navigateur :',
    noApps: 'Aucune application n’est connectée avec ce compte dans ce navigateur.',
    yes: 'Se déconnecter',
    no: 'Rester connecté',
  },
  stayed: {
    title: 'Toujours connecté',
    heading: 'Vous êtes toujours connecté',
    text: 'Rien n’a changé. Vous pouvez continuer dans vos applications.',
    backTo: (app) => `Retour à ${app}`,
  },
  telling: {
    title: 'Déconnexion',
    heading: 'Déconnexion en cours ...',
    text: 'Cela prend trois secondes au plus.',
  },
  signedOut: {
    title: 'Déconnecté',
    heading: (told, all) => {
      if (all === 0) return 'Vous êtes déconnecté'
      if (told === 0) return 'Vous êtes déconnecté ici'
      if (told < all) return `Vous êtes déconnecté ici, et de ${told} application${told > 1 ? 's' : ''} sur ${all}`
      return told === 1 ? 'Vous êtes déconnecté de 1 application' : `Vous êtes déconnecté de ${told} applications`
    },
    safe: 'Vous pouvez quitter cette page.',
    goesOn: 'Ce qui reste à faire se poursuit tout seul.',
    unknown:
      'Si votre navigateur ne nous a pas laissé vérifier, ouvrez l’application pour voir si vous y êtes déconnecté.',
  },
  marks: {
    told: 'Déconnecté',
    nothing: 'Personne à déconnecter',
    waiting: 'Envoi ...',
    refused: 'Refusé',
    dead: 'Injoignable',
    unknown: 'Vérification empêchée par le navigateur',
  },
  nextTry: {
    seconds: (n) => `Nouvel essai dans ${n} s`,
    minutes: (n) => `Nouvel essai dans ${n} min`,
  },
  error: {
    title: 'Non déconnecté',
    heading: 'Vous n’avez pas été déconnecté',
    unchanged: 'Rien n’a changé : vous êtes connecté comme avant.',
    uncertain: {
      heading: 'Vous êtes peut-être encore connecté',
      text: 'Déconnectez-vous une nouvelle fois pour en être sûr.',
    },
    again: 'Se déconnecter quand même',
    code: 'Code',
    problems: {
      logout_request_invalid: 'La demande de l’application était incorrecte.',
      logout_request_too_large: 'La demande est trop volumineuse.',
      logout_answer_cross_origin: 'La réponse ne venait pas de cette page.',
      logout_answer_invalid: 'La question date de plus de 15 minutes.',
      logout_answer_outdated: 'Quelqu’un s’est reconnecté entre-temps.',
      server_error: 'Une erreur s’est produite de notre côté.',
      receipt_unavailable:
        'Le détail par application ne peut pas être affiché pour le moment ; les applications sont prévenues malgré tout.',
    },
  },
  refusedPrompt: {
    title: 'Impossible',
    heading: 'Cela n’est pas possible ici',
    text: 'L’application a demandé quelque chose que cette connexion ne propose pas. Rien n’a changé. Revenez à l’application.',
  },
  failed: {
    title: 'Une erreur s’est produite',
    heading: 'Une erreur s’est produite de notre côté',
    text: 'Revenez à l’application et réessayez.',
  },
}
