// Tells what the session monitor says: the strip while the session is alive, a card in place of the page once it ended.
// Pages for nobody have no monitor: there the strip tells what the app says whenever the tab is looked at.
import { ageWords, endWords, SOMEBODY_ELSE } from './words.js'

const app = document.documentElement.dataset.app
const strip = document.getElementById('strip')
const part = (id) => document.getElementById(id)

let push = ''
let checkedAt
let ticking
let sub

document.addEventListener('lockstep:alive', ({ detail }) => {
  if (detail.heardBy === 'push') push = 'push connected'
  checkedAt = detail.heardAt
  sub = detail.session.sub
  show('alive', 'alive')
})

document.addEventListener('lockstep:unknown', () => {
  push = 'push not connected'
  show('unknown', 'cannot reach this app')
})

document.addEventListener('lockstep:ended', ({ detail }) => {
  clearInterval(ticking)
  document.title = `Signed out · ${app}`
  const words = endWords(detail)
  part('content').replaceChildren(endCard(words))
  document.querySelector('.person')?.remove()
  push = ''
  checkedAt = undefined
  show('ended', 'signed out')
  document.getElementById('signed-out').focus({ preventScroll: true })
  void tellWhoCame()
  document.addEventListener('visibilitychange', tellWhoCame)
})

ticking = setInterval(showAge, 1000)

if (!part('content')) {
  void lookAgain()
  document.addEventListener('visibilitychange', lookAgain)
}

async function lookAgain() {
  if (document.visibilityState === 'hidden') return
  const now = await askWho()
  if (now) checkedAt = Date.now()
  if (!now) show('unknown', 'cannot reach this app')
  else if (now.state === 'alive') show('alive', 'signed in')
  else show('none', 'not signed in')
}

async function askWho() {
  const answer = await fetch('/auth/session').catch(() => undefined)
  return answer?.json().catch(() => undefined)
}

/** A tab that lies in the background may be looked at again when somebody else uses this browser. */
async function tellWhoCame() {
  const now = await askWho()
  if (now?.state !== 'alive' || now.sub === sub) return
  document.removeEventListener('visibilitychange', tellWhoCame)
  document.querySelector('.card.ended p').append(` ${SOMEBODY_ELSE}`)
  Object.assign(document.querySelector('.card.ended a'), { href: '/', textContent: `Go to ${app}` })
}

function show(state, word) {
  strip.dataset.state = state
  if (part('state').textContent !== word) part('state').textContent = word
  part('push').textContent = push
  showAge()
}

function showAge() {
  const checked = part('checked')
  if (checkedAt === undefined) {
    checked.textContent = ''
    return
  }
  checked.textContent = `checked ${ageWords(Date.now() - checkedAt)} ago`
  checked.dateTime = new Date(checkedAt).toISOString()
  checked.title = new Date(checkedAt).toLocaleString()
}

function endCard(words) {
  const card = element('section', { className: 'card ended', role: 'status' })
  const title = element('h1', { id: 'signed-out', tabIndex: -1, textContent: 'Signed out' })
  const text = element('p', {})
  const time = element('time', {
    dateTime: words.at.toISOString(),
    title: words.at.toLocaleString(),
    textContent: words.time,
  })
  text.append(words.before, time, words.after)
  const again = element('a', { className: 'button primary', href: '/auth/login', textContent: 'Sign in again' })
  const beside = element('div', {})
  beside.append(title, text, again)
  card.append(tick(), beside)
  return card
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties)
}

function tick() {
  const create = (name, attributes) => {
    const shape = document.createElementNS('http://www.w3.org/2000/svg', name)
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value)
    return shape
  }
  const svg = create('svg', { viewBox: '0 0 40 40', width: 40, height: 40, 'aria-hidden': 'true' })
  svg.append(
    create('circle', { cx: 20, cy: 20, r: 18, fill: 'currentColor' }),
    create('path', {
      d: 'M12 21l6 6 11-13',
      fill: 'none',
      stroke: 'var(--card)',
      'stroke-width': 4,
      'stroke-linecap': 'round',
      'stroke-linejoin': 'round',
    }),
  )
  return svg
}
