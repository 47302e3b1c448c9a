import type { Page } from './pages/layout.ts'
import { mail } from './pages/mail.ts'
import { notes } from './pages/notes.ts'

/** One of the apps this program can be. */
export interface DemoApp {
  readonly name: string
  /** Its `client_id` at the demo's OP, the name of its host below `localhost`, and the class its colours hang on. */
  readonly id: string
  readonly port: number
  readonly claim: string
  readonly content: Page
}

/** Both apps: the same program with another name, colour and content. */
export const demoApps: readonly DemoApp[] = [
  { name: 'Notes', id: 'notes', port: 4001, claim: 'Three notes that only you can read.', content: notes },
  { name: 'Mail', id: 'mail', port: 4002, claim: 'Five mails that only you can read.', content: mail },
]
