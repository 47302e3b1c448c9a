export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <script type="module" src="/auth/session-monitor.js" data-on-ended="reload" />
        {children}
      </body>
    </html>
  )
}
