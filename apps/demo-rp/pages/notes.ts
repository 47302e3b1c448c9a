import { html } from 'hono/html'
import type { Page } from './layout.ts'

/** What Notes shows. */
export const notes: Page = html`<h1>Your notes</h1>
<ul class="notes">
<li><h2>For Saturday</h2><p>Bread, olives, the good tomatoes. Ask Mina whether she brings the cake or we do.</p><time datetime="2026-11-21">Yesterday</time></li>
<li><h2>Talk, second draft</h2><p>Open with the forgotten tab in the library. Then the one sentence. Then the demo, before anyone can ask for slides.</p><time datetime="2026-11-19">Thursday</time></li>
<li><h2>Flat, what is broken</h2><p>Kitchen tap drips again. Window in the hall will not close. Bell rings at the neighbours'.</p><time datetime="2026-11-12">12 November</time></li>
</ul>`
