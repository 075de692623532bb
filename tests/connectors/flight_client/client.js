// SPDX-License-Identifier: Apache-2.0
// One call, said as JSON in the first argument; what came of it is one line of JSON.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

// Packages lie in a cache, not beside this file.
const require = createRequire(`${process.env.NODE_PATH}/`);
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const arrow = require('apache-arrow');

const wish = JSON.parse(process.argv[2]);
const proto = new URL('flight.proto', import.meta.url).pathname;
const definition = protoLoader.loadSync(proto, { keepCase: true, longs: Number, enums: String, defaults: true });
const { FlightService } = grpc.loadPackageDefinition(definition).arrow.flight.protocol;

const [scheme, address] = wish.location.split('://');
const file = (name) => (wish[name] ? readFileSync(wish[name]) : null);
const credentials = scheme === 'grpc+tls'
  ? grpc.credentials.createSsl(file('ca'), file('key'), file('certificate'))
  : grpc.credentials.createInsecure();
const client = new FlightService(address, credentials);
const headers = new grpc.Metadata();
if (wish.token) headers.set('authorization', `Bearer ${wish.token}`);

const say = (found) => process.stdout.write(`${JSON.stringify(found, plain)}\n`);
function plain(_key, value) {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  return value;
}

// Encapsulated message format: continuation, length of the padded header, header, body.
function encapsulated({ data_header: header, data_body: body }) {
  const padded = Math.ceil(header.length / 8) * 8;
  const start = Buffer.alloc(8 + padded);
  start.writeUInt32LE(0xffffffff, 0);
  start.writeInt32LE(padded, 4);
  header.copy(start, 8);
  return Buffer.concat([start, body]);
}

const schemaOf = (schema) => schema.fields.map((field) => `${field.name}: ${field.type}`);

function finish(call, whenEnded) {
  call.on('error', (error) => { say({ error: error.code, details: error.details }); process.exit(0); });
  call.on('end', () => { whenEnded(); client.close(); });
}

const calls = {
  list() {
    const found = [];
    const call = client.ListFlights({ expression: Buffer.from(wish.criteria ?? '') }, headers);
    call.on('data', (info) => found.push(info.flight_descriptor.path));
    finish(call, () => say({ found }));
  },

  info() {
    client.GetFlightInfo({ type: 'PATH', path: [wish.feed] }, headers, (error, info) => {
      if (error) say({ error: error.code, details: error.details });
      else {
        const reader = arrow.RecordBatchReader.from(info.schema).open();
        say({ schema: schemaOf(reader.schema), ticket: info.endpoint[0].ticket.ticket.toString() });
      }
      client.close();
    });
  },

  get() {
    const messages = [];
    const metadata = [];
    const call = client.DoGet({ ticket: Buffer.from(wish.ticket) }, headers);
    call.on('data', (data) => {
      messages.push(encapsulated(data));
      if (messages.length === 1 && wish.announce) say({ joined: true });
      if (data.app_metadata.length) metadata.push(JSON.parse(data.app_metadata));
    });
    finish(call, () => {
      const table = arrow.tableFromIPC(Buffer.concat(messages));
      const rows = table.toArray().map((row) => Object.values(row.toJSON()));
      say({ schema: schemaOf(table.schema), rows, metadata });
    });
  },

  put() {
    const call = client.DoPut(headers);
    const answers = [];
    call.on('data', (result) => answers.push(JSON.parse(result.app_metadata)));
    finish(call, () => say({ answers }));
    for (const message of messagesOf(wish)) call.write(message);
    call.end();
  },

  // Puts it again and again, each time with another byte of its last message changed.
  async garble() {
    let refused = 0;
    for (let at = wish.from; at < wish.until; at += wish.step) {
      const messages = messagesOf(wish);
      const { data_header: header, data_body: body } = messages.at(-1);
      const whole = Buffer.concat([header, body]);
      whole[at % whole.length] ^= 1 << (at % 8);
      messages.at(-1).data_header = whole.subarray(0, header.length);
      messages.at(-1).data_body = whole.subarray(header.length);
      refused += await new Promise((done) => {
        const call = client.DoPut(headers, { deadline: Date.now() + 10000 });
        call.on('data', () => {});
        call.on('error', () => done(1));
        call.on('end', () => done(0));
        for (const message of messages) call.write(message);
        call.end();
      });
    }
    say({ refused });
    client.close();
  },
};

function messagesOf({ n, text, feed }) {
  const columns = { n: Int32Array.from(n), text };
  const bytes = Buffer.from(arrow.tableToIPC(arrow.tableFromArrays(columns), 'stream'));
  const reader = new arrow.MessageReader(bytes);
  const messages = [];
  let at = 0;
  for (const message of reader) {
    const start = at + 8 + bytes.readInt32LE(at + 4);
    const end = start + message.bodyLength;
    if (message.bodyLength) reader.readMessageBody(message.bodyLength);
    messages.push({ data_header: bytes.subarray(at + 8, start), data_body: bytes.subarray(start, end) });
    at = end;
  }
  messages[0].flight_descriptor = { type: 'PATH', path: [feed] };
  return messages;
}

calls[wish.call]();
