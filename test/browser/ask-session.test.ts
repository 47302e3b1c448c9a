import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { followSession, parseSessionDocument } from '../../src/browser/ask-session.ts'
import type { SessionDocument } from '../../src/protocol/session-document.ts'
import { fakeBackend, fakeWorld } from './fake-world.ts'

const alive: SessionDocument = { state: 'alive', session: 'é1', sub: 'ada', client_id: 'notes', expires_at: 1 }
const ended: SessionDocument = { state: 'ended', session: 'é1', ended: { cause: 'admin', at: 2 } }

describe('a session document', () => {
  it.each([alive, ended, { state: 'none' }])('is read back as it was written: %o', (document) => {
    expect(parseSessionDocument(JSON.stringify(document))).toEqual(document)
  })

  it.each([
    '',
    'null',
    '[]',
    '"ended"',
    '{}',
    '{"state":"ended"}',
    '{"state":"ended","session":"s1"}',
    '{"state":"ended","session":"s1","ended":null}',
    '{"state":"ended","session":7,"ended":{}}',
    '{"state":"alive","session":"s1"}',
    '{"state":"gone","session":"s1","sub":"ada","ended":{}}',
    '{"state":"none"',
  ])('is not made of %s', (json) => {
    expect(parseSessionDocument(json)).toBeUndefined()
  })
})

describe('a stream of session documents', () => {
  const stream = [
    ': hello\n\n',
    `event: session\ndata: ${JSON.stringify(alive)}\n\n`,
    ': \n\n',
    `id: 7\r\nevent: session\r\ndata:${JSON.stringify(ended)}\r\n\r\n`,
  ].join('')

  it('is read the same however the network cuts it', async () => {
    const bytes = new TextEncoder().encode(stream)
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(bytes.length)), async (cuts) => {
        const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
        const pieces = edges.slice(1).map((edge, i) => bytes.slice(edges[i], edge))
        expect((await read(pieces)).filter(Boolean)).toEqual([alive, ended])
      }),
      { numRuns: 50 },
    )
  })

  it('yields nothing but heartbeats for comments', async () => {
    expect(await read([new TextEncoder().encode(': \n\n')])).toEqual([undefined])
  })

  async function read(pieces: readonly Uint8Array<ArrayBuffer>[]): Promise<(SessionDocument | undefined)[]> {
    const backend = fakeBackend(alive)
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start(stream) {
        for (const piece of pieces) stream.enqueue(piece)
        stream.close()
      },
    })
    backend.failWith(() => Promise.resolve(new Response(body)), 'events')
    const documents: (SessionDocument | undefined)[] = []
    const { signal } = new AbortController()
    for await (const document of followSession(fakeWorld({ backend }), 'https://app.example/events', signal)) {
      documents.push(document)
    }
    return documents
  }
})
