// The one way to the server: a client typed by the server's own OpenAPI
// document, so that a change of the API that breaks the portal breaks the build.
import createClient from 'openapi-fetch';
import type { components, paths } from './api.gen';
import i18n from './i18n';

export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name];

/** A refusal in the form of RFC 9457, or a network that does not answer. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly requestId: string;
  readonly fields: Record<string, string>;
  constructor(body: Partial<Schema<'Problem'>>, status: number) {
    super(body.detail || body.title || i18n.t('error.network'));
    this.code = body.code ?? 'network';
    this.status = status;
    this.requestId = body.request_id ?? '';
    this.fields = Object.fromEntries((body.errors ?? []).map((f) => [f.field, f.message]));
  }
}

// The access token lives in memory alone: a script that is injected finds none
// in storage, and a reload gets a new one for the refresh cookie.
let token: string | null = null;
let renewing: Promise<boolean> | null = null;

// What storage does keep is that there may be a session: a visitor who never
// signed in asks the server for none.
export const mayBeSignedIn = () => token !== null || localStorage.getItem('session') === 'kept';

export const setToken = (value: string | null) => {
  token = value;
  if (value) localStorage.setItem('session', 'kept');
  else localStorage.removeItem('session');
};

// Who acts in another's name holds a token of minutes, and their own cookie:
// when it runs out they are themselves again, and must see that they are.
let acting = false;
export const setActing = (value: boolean) => {
  acting = value;
};

/** Asks for a new access token with the refresh cookie; false is signed out. */
export function renew(): Promise<boolean> {
  renewing ??= ask().finally(() => {
    renewing = null;
  });
  return renewing;
}

// Who asks for a factor again where the server wants one that was just shown.
// Requests that are refused together are one question.
let prove: (() => Promise<boolean>) | null = null;
let proving: Promise<boolean> | null = null;
export const onStepUp = (ask: (() => Promise<boolean>) | null) => {
  prove = ask;
  proving = null; // whoever was asked is gone
};

async function ask(): Promise<boolean> {
  for (let attempt = 1; ; attempt++) {
    const res = await fetch('/api/v1/auth/refresh', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}', credentials: 'same-origin' }).catch(() => {
      throw new Problem({}, 0);
    });
    const body = (await res.json().catch(() => ({}))) as Partial<Schema<'Tokens'>>; // what stands before the server answers a page
    if (res.status !== 429 && res.status < 500) {
      setToken((res.ok && body.access_token) || null);
      return res.ok;
    }
    // A server that is busy has signed nobody out.
    if (attempt === 5) throw new Problem(body as Partial<Schema<'Problem'>>, res.status);
    await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(10, Number(res.headers.get('Retry-After')) || attempt)));
  }
}

const stale = (code: string | undefined) => code === 'token_expired' || code === 'unauthenticated';

/** A token for the one that ran out; who acted in another's name gets none. */
async function anew(): Promise<boolean> {
  if (!acting) return renew();
  location.assign('/app/admin/tenants');
  return false;
}

/**
 * fetch with the session. An expired token is renewed behind the scenes, and
 * where a sensitive action wants a factor again the reader is asked for it:
 * either way the same request goes out once more.
 */
export async function send(input: Request): Promise<Response> {
  const attempt = () => {
    const request = input.clone();
    if (token) request.headers.set('Authorization', `Bearer ${token}`);
    request.headers.set('Accept-Language', i18n.language);
    return fetch(request);
  };
  let renewed = false;
  for (let proved = false; ; ) {
    const res = await attempt();
    if (!token || (res.status !== 401 && res.status !== 403)) return res;
    const { code } = (await res.clone().json().catch(() => ({}))) as { code?: string };
    if (stale(code) && !renewed) {
      renewed = true;
      if (!(await anew())) return res;
    } else if (code === 'step_up_required' && prove && !proved) {
      proved = true;
      proving ??= prove().finally(() => {
        proving = null;
      });
      if (!(await proving)) return res;
    } else return res;
    void res.body?.cancel(); // an unread answer would hold its connection
  }
}

export const hasToken = () => token !== null;

export const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

export const api = createClient<paths>({ baseUrl: '', fetch: send });

/** The data of an answer, or its Problem thrown. */
export async function data<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  let answer;
  try {
    answer = await call;
  } catch {
    throw new Problem({}, 0);
  }
  if (!answer.response.ok) throw new Problem((answer.error ?? {}) as Partial<Schema<'Problem'>>, answer.response.status);
  return answer.data as T;
}

/** Saves what is at an address. */
export function saveFrom(href: string, filename: string) {
  const link = document.createElement('a');
  link.href = href;
  link.download = filename;
  link.click();
}

/** Saves what the page has made or read. */
export function save(parts: BlobPart, filename: string, type?: string) {
  const href = URL.createObjectURL(new Blob([parts], type ? { type } : {}));
  saveFrom(href, filename);
  URL.revokeObjectURL(href);
}

/** Saves a download that needs the session. */
export async function download(path: string, filename: string) {
  const res = await send(new Request(path));
  if (!res.ok) throw new Problem(await res.json().catch(() => ({})), res.status);
  save(await res.blob(), filename);
}

/** A file on its way up, with its progress from 0 to 1: fetch cannot tell it. An expired token is renewed, as in send. */
export async function upload<T>(path: string, file: File, progress: (share: number) => void): Promise<T> {
  try {
    return await post<T>(path, file, progress);
  } catch (e) {
    if (!(e instanceof Problem) || !stale(e.code) || !(await anew())) throw e;
    return post<T>(path, file, progress);
  }
}

function post<T>(path: string, file: File, progress: (share: number) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append('file', file);
    const request = new XMLHttpRequest();
    request.open('POST', path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.setRequestHeader('Accept-Language', i18n.language);
    request.upload.onprogress = (e) => e.lengthComputable && progress(e.loaded / e.total);
    request.onerror = () => reject(new Problem({}, 0));
    request.onload = () => {
      let body;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        body = {};
      }
      if (request.status < 300) resolve(body);
      else reject(new Problem(body, request.status));
    };
    request.send(form);
  });
}

export interface ServerEvent {
  id: string;
  event: string;
  data: unknown;
}

/**
 * Follows a stream of server-sent events until one of the named ends, through
 * lost connections, from the event that was seen last.
 */
export async function follow(path: string, ends: string[], seen: (e: ServerEvent) => void, signal: AbortSignal) {
  let last = '';
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 8000)) {
    try {
      const res = await send(new Request(path, { headers: last ? { 'Last-Event-ID': last } : {}, signal }));
      if (!res.ok || !res.body) {
        const problem = new Problem(await res.json().catch(() => ({})), res.status);
        if (res.status < 500 && res.status !== 429) throw problem;
      } else {
        const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          wait = 500;
          text += value;
          for (let at = text.indexOf('\n\n'); at >= 0; at = text.indexOf('\n\n')) {
            const e = parse(text.slice(0, at));
            text = text.slice(at + 2);
            if (!e) continue;
            if (e.id) last = e.id;
            seen(e);
            if (ends.includes(e.event)) return;
          }
        }
      }
    } catch (e) {
      if (e instanceof Problem || signal.aborted) {
        if (signal.aborted) return;
        throw e;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function parse(block: string): ServerEvent | null {
  const e = { id: '', event: 'message', data: null as unknown };
  let body = '';
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue; // a comment keeps the line open
    const value = line.slice(colon + 1).replace(/^ /, '');
    const field = line.slice(0, colon);
    if (field === 'id') e.id = value;
    else if (field === 'event') e.event = value;
    else if (field === 'data') body += value;
  }
  if (!body) return null;
  e.data = JSON.parse(body);
  return e;
}
