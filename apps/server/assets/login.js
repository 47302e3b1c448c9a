// The demo's accounts fill the form; without this script their buttons load the page again with the form filled.
const username = document.getElementById('username')
const password = document.getElementById('password')

for (const person of document.querySelectorAll('.person')) {
  person.addEventListener('click', (event) => {
    event.preventDefault()
    username.value = person.dataset.username
    password.value = person.dataset.password
    for (const other of document.querySelectorAll('.person'))
      other.setAttribute('aria-pressed', String(other === person))
    document.querySelector('#sign-in button').focus()
  })
}
