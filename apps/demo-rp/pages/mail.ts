import { html } from 'hono/html'
import type { Page } from './layout.ts'

interface MailRow {
  readonly from: string
  readonly subject: string
  readonly start: string
  readonly at: string
  readonly unread?: true
}

const mails: readonly MailRow[] = [
  {
    from: 'Mina Okafor',
    subject: 'Saturday',
    start: 'I bring the cake. You bring the olives, the big ones this time.',
    at: '13:40',
    unread: true,
  },
  {
    from: 'City Library',
    subject: 'Two books are due',
    start: 'You can renew them once more, until Friday evening.',
    at: '11:02',
    unread: true,
  },
  {
    from: 'Jonas Weber',
    subject: 'Re: Talk, second draft',
    start: 'The forgotten tab is the best part. Start with it.',
    at: '09:15',
  },
  {
    from: 'House management',
    subject: 'The bell',
    start: 'The electrician comes on Tuesday between eight and noon.',
    at: 'Fri',
  },
  {
    from: 'Rosa',
    subject: 'Photos from the lake',
    start: 'Finally sorted. The one with the goose is for your wall.',
    at: 'Wed',
  },
]

/** What Mail shows. */
export const mail: Page = html`<h1>Inbox <small>2 unread</small></h1>
<ul class="mails">
${mails.map(
  ({ from, subject, start, at, unread }) => html`<li class="${unread ? 'unread' : ''}">
<span class="from">${unread ? html`<span class="hidden">Unread: </span>` : ''}${from}</span>
<span class="at">${at}</span>
<span class="subject">${subject}</span>
<span class="start">${start}</span>
</li>`,
)}
</ul>`
