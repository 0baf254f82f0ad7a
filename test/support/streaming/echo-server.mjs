// Servers for port-forward tests, run inside a pod's network namespace. Arguments: ADDRESS PORT KIND, repeated.
// Kinds: `answer` says all it was sent once its client has half-closed; `echo` says it at once; `greet` speaks first and
// closes. Prints a line when all listen.
import { createServer } from 'node:net';

const kinds = {
  answer(socket) {
    let text = '';
    socket.on('data', chunk => (text += chunk)).on('end', () => socket.end(`all of it: ${text}`));
  },
  echo: socket => socket.pipe(socket),
  greet: socket => socket.end('hello'),
};

const given = process.argv.slice(2);
const servers = [];
for (let i = 0; i < given.length; i += 3) {
  const [address, port, kind] = given.slice(i, i + 3);
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => {});
    kinds[kind](socket);
  });
  servers.push(new Promise(resolve => server.listen({ host: address, port, ipv6Only: true }, resolve)));
}
await Promise.all(servers);
console.log('listening');
