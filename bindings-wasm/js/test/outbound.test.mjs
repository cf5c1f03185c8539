/** `createOutbound` over a server that limits, fails, breaks off and streams. */

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';

import { FakeClock, InvalidArgument, RateLimited, createLimiter, createOutbound } from 'tidegate-wasm';

let server;
let url;
// What the server answers to a path, and the requests that it got.
const answers = new Map();
const requests = [];

before(async () => {
  server = createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      requests.push({ path: request.url, method: request.method, body: Buffer.concat(parts).toString(), at: performance.now() });
      answers.get(request.url)(response, requests.filter(({ path }) => path === request.url).length);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

function serve(path, answer) {
  answers.set(path, answer);
  return `${url}${path}`;
}

function sentTo(path) {
  return requests.filter((request) => request.path === path);
}

const SOON = { baseMs: 1, longestMs: 5 };

test('one limit alone suffices, and every call takes a token of its host', async () => {
  const outbound = createOutbound({ limits: '3/h', timeoutMs: 20_000 });
  const address = serve('/plain', (response) => response.end('hello'));
  for (let call = 0; call < 3; call++) assert.equal(await (await outbound.fetch(address)).text(), 'hello');
  await assert.rejects(outbound.fetch(address), RateLimited);
  assert.equal(sentTo('/plain').length, 3);
  assert.equal(outbound.limiter.peekSync('127.0.0.1').allowed, false);
});

test('a refusal holds the key for all, and the call is made again after it', async () => {
  const outbound = createOutbound({ limits: '1000/s', retry: SOON });
  const address = serve('/refuses', (response, number) => {
    response.writeHead(number === 1 ? 429 : 200, number === 1 ? { 'retry-after-ms': '300' } : {}).end('{}');
  });
  const first = outbound.fetch(address);
  while (outbound.limiter.peekSync('127.0.0.1').allowed) await new Promise((resolve) => setTimeout(resolve, 1));
  const others = [outbound.fetch(address), outbound.fetch(address)];
  assert.deepEqual((await Promise.all([first, ...others])).map(({ status }) => status), [200, 200, 200]);
  const [refused, ...later] = sentTo('/refuses').map(({ at }) => at);
  assert.equal(later.length, 3);
  for (const at of later) assert.ok(at - refused >= 299, `${at - refused} ms after the refusal`);
});

test('the wait of an error body is read, and the body is still there for the caller', async () => {
  const outbound = createOutbound({ limits: '1000/s', retry: { attempts: 1 }, profile: [{ header: 'body.error.wait', meaning: 'retry_after', unit: 'seconds' }] });
  const address = serve('/body', (response) => response.writeHead(429, { 'content-type': 'application/json' }).end('{"error":{"wait":30}}'));
  const response = await outbound.fetch(address);
  assert.deepEqual(await response.json(), { error: { wait: 30 } });
  assert.ok(outbound.limiter.peekSync('127.0.0.1').retryAfterMs > 25_000);
});

test('a fault is repeated within the budget, and no more', async () => {
  const outbound = createOutbound({ limits: 'unlimited', retry: { ...SOON, percent: 10, reserve: 3, attempts: 4 } });
  const address = serve('/fails', (response) => response.writeHead(503).end());
  for (let call = 0; call < 100; call++) assert.equal((await outbound.fetch(address)).status, 503);
  assert.ok(sentTo('/fails').length <= 110, `${sentTo('/fails').length} requests`);
  assert.ok(sentTo('/fails').length >= 103);
});

test('what may take effect twice is repeated, and nothing else is', async () => {
  const outbound = createOutbound({ limits: 'unlimited', retry: SOON });
  const address = serve('/once', (response) => response.writeHead(500).end());
  const sends = async (init) => {
    requests.length = 0;
    await outbound.fetch(address, init);
    return sentTo('/once').length;
  };
  assert.equal(await sends({ method: 'POST', body: 'a' }), 1);
  assert.equal(await sends({ method: 'POST', body: 'a', headers: { 'Idempotency-Key': '1' } }), 4);
  assert.equal(await sends({ method: 'PUT', body: 'a' }), 4);
  const stream = () => new Blob(['a']).stream();
  assert.equal(await sends({ method: 'PUT', body: stream(), duplex: 'half' }), 1);
  requests.length = 0;
  await outbound.fetch(new Request(address, { method: 'PUT', body: 'whole' }));
  assert.deepEqual(sentTo('/once').map(({ body }) => body), ['whole']);
});

test('a refused POST is repeated, because the vendor has not carried it out', async () => {
  const outbound = createOutbound({ limits: 'unlimited', retry: SOON });
  const address = serve('/later', (response, number) => response.writeHead(number === 1 ? 429 : 201, number === 1 ? { 'retry-after': '0' } : {}).end());
  assert.equal((await outbound.fetch(address, { method: 'POST', body: 'a' })).status, 201);
  assert.deepEqual(sentTo('/later').map(({ body }) => body), ['a', 'a']);
});

test('a connection that cannot be made is tried again, and its error is thrown in the end', async () => {
  const outbound = createOutbound({ limits: 'unlimited', retry: SOON });
  let sends = 0;
  const refused = async () => {
    sends += 1;
    throw Object.assign(new TypeError('fetch failed'), { cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }) });
  };
  await assert.rejects(outbound.send(refused, { key: 'k', idempotent: false }), /fetch failed/);
  assert.equal(sends, 4);
  sends = 0;
  const untrusted = async () => {
    sends += 1;
    throw Object.assign(new TypeError('fetch failed'), { cause: Object.assign(new Error('certificate'), { code: 'CERT_HAS_EXPIRED' }) });
  };
  await assert.rejects(outbound.send(untrusted, { key: 'k' }), /fetch failed/);
  assert.equal(sends, 1);
});

test('an attempt ends after its time, and the call after its own', async () => {
  const outbound = createOutbound({ limits: 'unlimited', attemptTimeoutMs: 50, timeoutMs: 5000, retry: { ...SOON, attempts: 3 } });
  const address = serve('/silent', () => {});
  await assert.rejects(outbound.fetch(address), { name: 'TimeoutError' });
  assert.equal(sentTo('/silent').length, 3);
  const short = createOutbound({ limits: 'unlimited', timeoutMs: 100, retry: { attempts: 100, baseMs: 1 } });
  const begin = performance.now();
  await assert.rejects(short.fetch(serve('/mute', () => {})), { name: 'TimeoutError' });
  assert.ok(performance.now() - begin >= 99);
  assert.equal(sentTo('/mute').length, 1);
});

test('the caller may leave at any time, with the reason of its signal', async () => {
  const outbound = createOutbound({ limits: '1/h' });
  const address = serve('/left', () => {});
  const first = new AbortController();
  const sent = outbound.fetch(address, { signal: first.signal });
  while (sentTo('/left').length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  first.abort(new Error('enough'));
  await assert.rejects(sent, /enough/);
  const second = new AbortController();
  const waiting = outbound.fetch(address, { signal: second.signal });
  second.abort(new Error('too long'));
  await assert.rejects(waiting, /too long/);
  assert.equal(outbound.limiter.waiting('127.0.0.1').callers, 0);
});

test('a place is given back when the body has ended, was cancelled or broke off', async () => {
  const outbound = createOutbound({ limits: 'unlimited', concurrency: 1, timeoutMs: 20_000, retry: { attempts: 1 } });
  const address = serve('/place', (response) => response.end('body'));
  const [one, two] = [outbound.fetch(address), outbound.fetch(address)];
  assert.equal(await (await one).text(), 'body');
  const second = await two;
  assert.equal(second.url, address);
  await second.body.cancel();
  const broken = serve('/breaks', (response) => {
    response.write('half');
    response.socket.end();
    response.destroy();
  });
  await assert.rejects(outbound.fetch(broken).then((response) => response.text()));
  assert.equal(await (await outbound.fetch(address)).text(), 'body');
  const held = await outbound.fetch(address);
  await assert.rejects(outbound.at('x').send(() => ({ status: 200, headers: {} }), { key: 'k', timeoutMs: 30 }), RateLimited);
  await held.text();
});

test('usage corrects the charge when the body has ended', async () => {
  const outbound = createOutbound({ limits: '100000/d', clock: new FakeClock(), cost: 4000, usage: (text) => JSON.parse(text.slice(text.lastIndexOf('{'))).tokens });
  const address = serve('/model', (response) => {
    response.write('data: '.padEnd(3_000_000, 'é'));
    response.end('\n{"tokens": 1500}');
  });
  await (await outbound.fetch(address)).text();
  assert.equal(outbound.limiter.peekSync('127.0.0.1', 0).remaining, 98_500);
  const garbled = serve('/garbled', (response) => response.end('nothing'));
  await (await outbound.fetch(garbled)).text();
  assert.equal(outbound.limiter.peekSync('127.0.0.1', 0).remaining, 94_500);
});

test('hosts have options and buckets of their own', async () => {
  const outbound = createOutbound({ hosts: { 'a.example': { limits: '1/h' }, '*.b.example': { limits: '2/h' } }, timeoutMs: 20_000 });
  const call = (host) => outbound.send(() => ({ status: 200, headers: {} }), { request: `https://${host}/x` });
  await call('a.example');
  await assert.rejects(call('A.example'), RateLimited);
  await call('x.b.example');
  await call('x.b.example');
  await assert.rejects(call('x.b.example'), RateLimited);
  await call('y.b.example');
  for (let index = 0; index < 5; index++) await call('b.example');
  assert.equal(outbound.at('deep.x.b.example').limiter.limits[0].name, '2/h');
  outbound.close();
});

test('axios-like adapters are limited, held and repeated', async () => {
  const outbound = createOutbound({ limits: '1000/s', retry: SOON });
  let sends = 0;
  const adapter = outbound.axiosAdapter(async ({ url: asked }) => {
    sends += 1;
    if (sends === 1) throw Object.assign(new Error('Request failed'), { code: 'ERR_BAD_REQUEST', response: { status: 429, headers: { 'retry-after-ms': '50' }, data: '' } });
    return { status: 200, headers: {}, data: asked };
  });
  const response = await adapter({ url: '/users', baseURL: 'https://api.example.com/v1', method: 'get', headers: new Map() });
  assert.equal(response.data, '/users');
  assert.equal(sends, 2);
  assert.equal(outbound.limiter.peekSync('api.example.com').limit, 1000);
});

test('time may be a clock of the test', async () => {
  const clock = new FakeClock();
  const outbound = createOutbound({ limits: '1000/s', clock, retry: { baseMs: 0 } });
  let sends = 0;
  const work = () => {
    sends += 1;
    return sends === 1 ? { status: 503, headers: { 'retry-after': '30' } } : { status: 200, headers: {} };
  };
  await outbound.send(work, { key: 'k' });
  assert.equal(sends, 2);
  assert.ok(clock.now() >= 30_000_000_000n);
});

test('mistakes are told by name', async () => {
  const wrong = (options, message) => assert.throws(() => createOutbound(options), (error) => error instanceof InvalidArgument && message.test(error.message));
  wrong('10/s', /createOutbound/);
  wrong({ limits: '10/s', speed: 1 }, /speed/);
  wrong({ limits: '10/s', retry: { tries: 3 } }, /tries/);
  wrong({ limits: '10/s', retry: { attempts: 0 } }, /attempts/);
  wrong({ limits: '10/s', concurrency: 0 }, /concurrency/);
  wrong({ limits: '10/s', profile: 'nobody' }, /nobody/);
  wrong({ limits: '10/s', limiter: createLimiter({ limits: '1/s' }) }, /limiter/);
  wrong({ limits: '10/s', hosts: { a: 5 } }, /hosts/);
  const outbound = createOutbound({ limits: '10/s' });
  await assert.rejects(outbound.send(() => 1, {}), /key/);
  await assert.rejects(outbound.send(() => 1, { key: 'k' }), /response/);
  await assert.rejects(outbound.send(() => { throw new RangeError('mine'); }, { key: 'k' }), RangeError);
  await assert.rejects(outbound.fetch('no url'), TypeError);
  assert.equal(outbound.limiter.peekSync('no url', 0).remaining, 10);
});

test('a signal that aborts at any moment ends the call', async () => {
  const address = serve('/never', () => {});
  for (let turns = 0; turns < 30; turns++) {
    const outbound = createOutbound({ limits: '1000/s', concurrency: 1 });
    const controller = new AbortController();
    const call = outbound.fetch(address, { signal: controller.signal });
    for (let turn = 0; turn < turns; turn++) await undefined;
    controller.abort(new Error('left'));
    await assert.rejects(call, /left/);
    await outbound.send(() => ({ status: 200, headers: {} }), { key: 'k', timeoutMs: 20_000 });
  }
});

test('each redirect takes a token of its host, and keeps the rules of fetch', async () => {
  const outbound = createOutbound({ limits: '4/h', timeoutMs: 20_000, retry: { attempts: 1 } });
  requests.length = 0;
  const last = serve('/last', (response) => response.end('there'));
  const first = serve('/first', (response) => response.writeHead(302, { location: '/second' }).end('gone'));
  serve('/second', (response) => response.writeHead(307, { location: '/last' }).end());
  const response = await outbound.fetch(first, { method: 'POST', body: 'a', headers: { 'content-type': 'text/plain' } });
  assert.deepEqual([await response.text(), response.url, response.redirected, response.status], ['there', last, true, 200]);
  const seen = (...paths) => requests.filter(({ path }) => paths.includes(path)).map(({ method, body }) => [method, body]);
  assert.deepEqual(seen('/first', '/second', '/last'), [['POST', 'a'], ['GET', ''], ['GET', '']]);
  assert.equal(outbound.limiter.peekSync('127.0.0.1', 0).remaining, 1);
  assert.equal((await outbound.fetch(first, { redirect: 'manual' })).status, 302);
  await assert.rejects(outbound.fetch(last), RateLimited);

  const kept = createOutbound({ limits: 'unlimited' });
  requests.length = 0;
  const moved = serve('/moved', (response) => response.writeHead(308, { location: '/last' }).end());
  await (await kept.fetch(moved, { method: 'PUT', body: 'whole' })).text();
  assert.deepEqual(seen('/moved', '/last'), [['PUT', 'whole'], ['PUT', 'whole']]);
  const round = serve('/round', (answer) => answer.writeHead(302, { location: '/round' }).end());
  requests.length = 0;
  await assert.rejects(kept.fetch(round), /redirects/);
  assert.equal(sentTo('/round').length, 21);
  await assert.rejects(kept.fetch(round, { redirect: 'error' }), TypeError);
});

test('a request shows whether it may be sent twice', async () => {
  const outbound = createOutbound({ limits: 'unlimited', retry: SOON });
  const sends = async (request, idempotent) => {
    let count = 0;
    await outbound.send(() => {
      count += 1;
      return { status: 500, headers: {} };
    }, { request, idempotent });
    return count;
  };
  assert.equal(await sends(new Request('http://a.example', { method: 'POST' })), 1);
  assert.equal(await sends({ url: 'http://a.example', method: 'post', headers: { 'idempotency-Key': '1' } }), 4);
  assert.equal(await sends(new Request('http://a.example', { method: 'POST' }), true), 4);
  assert.equal(await sends('http://a.example'), 4);
});

test('a place comes back when the signal aborts after the headers, and where a body is no stream', async () => {
  const outbound = createOutbound({ limits: 'unlimited', concurrency: 1, retry: { attempts: 1 } });
  const address = serve('/slow-body', (response) => response.write('begun'));
  const controller = new AbortController();
  const response = await outbound.fetch(address, { signal: controller.signal });
  controller.abort(new Error('left'));
  await assert.rejects(response.text());
  const mocked = createOutbound({ limits: 'unlimited', concurrency: 1, fetch: async () => ({ status: 200, headers: new Headers(), body: { on() {} } }) });
  await mocked.fetch('http://a.example');
  await mocked.fetch('http://a.example');
  assert.equal(await outbound.send(() => ({ status: 200, headers: {} }), { key: 'k' }).then(({ status }) => status), 200);
});

test('a signal that lives for many calls is forgotten after each', async () => {
  const outbound = createOutbound({ limits: 'unlimited', fetch: async () => new Response('body') });
  let listeners = 0;
  const signal = new AbortController().signal;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...listener) => {
    listeners += 1;
    addEventListener.apply(signal, listener);
  };
  signal.removeEventListener = (...listener) => {
    listeners -= 1;
    removeEventListener.apply(signal, listener);
  };
  for (let call = 0; call < 20; call++) {
    await (await outbound.fetch('http://a.example', { signal })).text();
    await outbound.send(() => ({ status: 200, headers: {} }), { key: 'k', signal });
  }
  assert.equal(listeners, 0);
});

test('the body of a response that is made again is cancelled', async () => {
  let cancelled = 0;
  let sends = 0;
  const fetchOnce = async () => {
    sends += 1;
    if (sends === 3) return new Response('well');
    return new Response(new ReadableStream({ cancel: () => { cancelled += 1; } }), { status: 503 });
  };
  const outbound = createOutbound({ limits: 'unlimited', retry: SOON, fetch: fetchOnce });
  assert.equal(await (await outbound.fetch('http://a.example')).text(), 'well');
  assert.equal(cancelled, 2);
});

test('semaphores of other libraries fit', async () => {
  let taken = 0;
  const semaphore = { acquire: async () => { taken += 1; }, release: async () => { taken -= 1; throw new Error('mine'); } };
  const outbound = createOutbound({ limits: 'unlimited', concurrency: semaphore });
  await outbound.send(() => {
    assert.equal(taken, 1);
    return { status: 200, headers: {} };
  }, { key: 'k' });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(taken, 0);
  const full = createOutbound({ limits: 'unlimited', concurrency: { acquire: async () => false, release() {} } });
  await assert.rejects(full.send(() => 1, { key: 'k' }), RateLimited);
});

test('hosts that match nothing are refused, and a final dot tells no other host', () => {
  for (const host of ['https://a.example', 'a.example:443', '', '*.', 'a b', 'a.example.']) {
    assert.throws(() => createOutbound({ hosts: { [host]: { limits: '1/s' } } }), InvalidArgument, host);
  }
  const outbound = createOutbound({ hosts: { 'a.example': { limits: '1/h' } } });
  assert.equal(outbound.at('a.example').limiter.limits[0].name, '1/h');
});
