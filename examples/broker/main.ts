import { mkdirSync } from 'node:fs'
import { buildBroker } from './broker.ts'

// The defaults are those of Notes at the demo's OP, npm run server -- --demo, whose redirect URI must be /upstream/callback
const {
  ISSUER = 'http://localhost:4000',
  CLIENT_ID = 'notes',
  CLIENT_SECRET = 'demo-secret-of-notes',
  APP_URL = 'http://notes.localhost:4001',
  PORT = '4001',
  DATA = './broker-data',
  CLIENTS = '[]', // JSON: metadata of the apps that sign in here
} = process.env

mkdirSync(DATA, { recursive: true })
const broker = await buildBroker({
  url: APP_URL,
  upstream: { issuer: ISSUER, clientId: CLIENT_ID, clientSecret: CLIENT_SECRET },
  clients: JSON.parse(CLIENTS),
  data: DATA,
  egress: ['127.0.0.0/8'],
})
const server = broker.app.listen(Number(PORT), '127.0.0.1', () => console.log('listening', server.address()))
process.on('SIGTERM', () => {
  server.close(() => broker.close())
  server.closeAllConnections()
})
