// Every page and its address. Pages load when they are first opened; the front
// page and the way in are all that the first load carries.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, Outlet, redirect } from '@tanstack/react-router';
import { Home } from './pages/home';
import { PublicShell } from './parts/public-shell';
import { NotFound } from './parts/states';

const root = createRootRoute({ component: Outlet, notFoundComponent: NotFound });

// Where one may be led back to after signing in: a page of ours, and no other site.
const own = (path: unknown): path is string => typeof path === 'string' && /^\/(app|sso)(\/|\?|#|$)/.test(path);

const site = createRoute({ getParentRoute: () => root, id: 'site', component: PublicShell });
const home = createRoute({ getParentRoute: () => site, path: '/', component: Home });
const plans = createRoute({ getParentRoute: () => site, path: '/plans', component: lazyRouteComponent(() => import('./pages/plans'), 'Plans') });
const status = createRoute({ getParentRoute: () => site, path: '/status', component: lazyRouteComponent(() => import('./pages/status'), 'Status') });
const terms = createRoute({ getParentRoute: () => site, path: '/terms', component: lazyRouteComponent(() => import('./pages/legal'), 'Terms') });
const privacy = createRoute({ getParentRoute: () => site, path: '/privacy', component: lazyRouteComponent(() => import('./pages/legal'), 'Privacy') });
const signIn = createRoute({
  getParentRoute: () => site,
  path: '/sign-in',
  validateSearch: (search: Record<string, unknown>): { next?: string; sso?: string } => ({
    ...(own(search.next) ? { next: search.next } : {}),
    ...(typeof search.sso === 'string' ? { sso: search.sso } : {}),
  }),
  component: lazyRouteComponent(() => import('./pages/sign-in'), 'SignIn'),
});
const signUp = createRoute({ getParentRoute: () => site, path: '/sign-up', component: lazyRouteComponent(() => import('./pages/sign-up'), 'SignUp') });

const sso = createRoute({
  getParentRoute: () => site,
  path: '/sso',
  validateSearch: (search: Record<string, unknown>): { step: 'code' | 'signup' | 'link'; return_to?: string } => ({
    step: search.step === 'signup' || search.step === 'link' ? search.step : 'code',
    ...(own(search.return_to) ? { return_to: search.return_to } : {}),
  }),
  component: lazyRouteComponent(() => import('./pages/sso'), 'Sso'),
});
const invitation = createRoute({ getParentRoute: () => site, path: '/invitation', component: lazyRouteComponent(() => import('./pages/invitation'), 'Invitation') });

const forgot = createRoute({ getParentRoute: () => site, path: '/forgot-password', component: lazyRouteComponent(() => import('./pages/links'), 'ForgotPassword') });
const reset = createRoute({ getParentRoute: () => site, path: '/reset-password', component: lazyRouteComponent(() => import('./pages/links'), 'ResetPassword') });
const verify = createRoute({ getParentRoute: () => site, path: '/verify-email', component: lazyRouteComponent(() => import('./pages/links'), 'VerifyEmail') });
const confirm = createRoute({ getParentRoute: () => site, path: '/confirm-email', component: lazyRouteComponent(() => import('./pages/links'), 'ConfirmEmail') });
const personRequest = createRoute({ getParentRoute: () => site, path: '/privacy-request', component: lazyRouteComponent(() => import('./pages/links'), 'PersonRequest') });

const app = createRoute({ getParentRoute: () => root, path: '/app', component: lazyRouteComponent(() => import('./parts/app-shell'), 'AppShell') });
const start = createRoute({ getParentRoute: () => app, path: '/', component: lazyRouteComponent(() => import('./pages/start'), 'Start') });
const datasets = createRoute({ getParentRoute: () => app, path: '/datasets', component: lazyRouteComponent(() => import('./pages/datasets'), 'Datasets') });
const dataset = createRoute({ getParentRoute: () => app, path: '/datasets/$id', component: lazyRouteComponent(() => import('./pages/dataset'), 'Dataset') });
const match = createRoute({
  getParentRoute: () => app,
  path: '/match',
  validateSearch: (search: Record<string, unknown>): { dataset?: string } => (typeof search.dataset === 'string' ? { dataset: search.dataset } : {}),
  component: lazyRouteComponent(() => import('./pages/match'), 'Match'),
});
const research = createRoute({ getParentRoute: () => app, path: '/research', component: lazyRouteComponent(() => import('./pages/research'), 'Research') });
const run = createRoute({ getParentRoute: () => app, path: '/research/$id', component: lazyRouteComponent(() => import('./pages/run'), 'Run') });
const team = createRoute({ getParentRoute: () => app, path: '/team', component: lazyRouteComponent(() => import('./pages/team'), 'Team') });
const usage = createRoute({ getParentRoute: () => app, path: '/usage', component: lazyRouteComponent(() => import('./pages/usage'), 'Usage') });
const keys = createRoute({ getParentRoute: () => app, path: '/api-keys', component: lazyRouteComponent(() => import('./pages/api-keys'), 'ApiKeys') });
const audit = createRoute({ getParentRoute: () => app, path: '/audit', component: lazyRouteComponent(() => import('./pages/audit'), 'Audit') });
const billing = createRoute({
  getParentRoute: () => app,
  path: '/billing',
  validateSearch: (search: Record<string, unknown>): { session?: string } => (typeof search.session === 'string' ? { session: search.session } : {}),
  component: lazyRouteComponent(() => import('./pages/billing'), 'Billing'),
});
const webhooks = createRoute({ getParentRoute: () => app, path: '/webhooks', component: lazyRouteComponent(() => import('./pages/webhooks'), 'Webhooks') });
const workspace = createRoute({ getParentRoute: () => app, path: '/workspace', component: lazyRouteComponent(() => import('./pages/workspace'), 'Workspace') });
const signOn = createRoute({ getParentRoute: () => app, path: '/sign-on', component: lazyRouteComponent(() => import('./pages/sign-on'), 'SignOn') });
const privacyCentre = createRoute({ getParentRoute: () => app, path: '/privacy', component: lazyRouteComponent(() => import('./pages/privacy'), 'PrivacyCentre') });
const security = createRoute({ getParentRoute: () => app, path: '/security', component: lazyRouteComponent(() => import('./pages/security'), 'Security') });
const notifications = createRoute({ getParentRoute: () => app, path: '/notifications', component: lazyRouteComponent(() => import('./pages/notifications'), 'NotificationList') });
const account = createRoute({ getParentRoute: () => app, path: '/account', component: lazyRouteComponent(() => import('./pages/account'), 'Account') });
// Administration of the platform.
const tenants = createRoute({ getParentRoute: () => app, path: '/admin/tenants', component: lazyRouteComponent(() => import('./pages/admin-tenants'), 'Tenants') });
const tenantOf = createRoute({ getParentRoute: () => app, path: '/admin/tenants/$id', component: lazyRouteComponent(() => import('./pages/admin-tenant'), 'Tenant') });
const people = createRoute({ getParentRoute: () => app, path: '/admin/people', component: lazyRouteComponent(() => import('./pages/admin-people'), 'People') });
const catalogue = createRoute({ getParentRoute: () => app, path: '/admin/plans', component: lazyRouteComponent(() => import('./pages/admin-plans'), 'PlanCatalogue') });
const payments = createRoute({ getParentRoute: () => app, path: '/admin/payments', component: lazyRouteComponent(() => import('./pages/admin-payments'), 'Payments') });
const record = createRoute({ getParentRoute: () => app, path: '/admin/record', component: lazyRouteComponent(() => import('./pages/admin-record'), 'PlatformRecord') });
const business = createRoute({ getParentRoute: () => app, path: '/admin/business', component: lazyRouteComponent(() => import('./pages/admin-business'), 'Business') });
const services = createRoute({ getParentRoute: () => app, path: '/admin/services', component: lazyRouteComponent(() => import('./pages/admin-services'), 'Services') });
const jobs = createRoute({ getParentRoute: () => app, path: '/admin/jobs', component: lazyRouteComponent(() => import('./pages/admin-jobs'), 'Jobs') });
const alerts = createRoute({ getParentRoute: () => app, path: '/admin/alerts', component: lazyRouteComponent(() => import('./pages/admin-alerts'), 'Alerts') });
const providers = createRoute({ getParentRoute: () => app, path: '/admin/providers', component: lazyRouteComponent(() => import('./pages/admin-providers'), 'Providers') });

// Addresses that our mails and the payment page name.
const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: (search: Record<string, unknown>): { sso?: string } => (typeof search.sso === 'string' ? { sso: search.sso } : {}),
  beforeLoad: ({ search }) => {
    throw redirect({ to: '/sign-in', search });
  },
});
const settings = createRoute({
  getParentRoute: () => root,
  path: '/settings/security',
  beforeLoad: () => {
    throw redirect({ to: '/app/security' });
  },
});
const paid = createRoute({
  getParentRoute: () => root,
  path: '/billing',
  validateSearch: (search: Record<string, unknown>): { session?: string } => (typeof search.session === 'string' ? { session: search.session } : {}),
  beforeLoad: ({ search }) => {
    throw redirect({ to: '/app/billing', search });
  },
});

export const router = createRouter({
  routeTree: root.addChildren([
    site.addChildren([home, plans, status, terms, privacy, signIn, signUp, sso, invitation, forgot, reset, verify, confirm, personRequest]),
    app.addChildren([start, datasets, dataset, match, research, run, team, usage, keys, audit, billing, webhooks, workspace, signOn, privacyCentre, security, account, notifications, tenants, tenantOf, people, catalogue, payments, record, business, services, jobs, alerts, providers]),
    login,
    settings,
    paid,
  ]),
  scrollRestoration: true,
  defaultPreload: 'intent',
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
