export default {
  // Node loads Lockstep itself, instead of Next bundling it: its own files stay beside it.
  serverExternalPackages: ['lockstep'],
}
