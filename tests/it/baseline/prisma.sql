-- What another ORM's push makes: names in camel case, ids of text, times of milliseconds without a zone, arrays.
create type "TrialStatus" as enum ('pending', 'active', 'converted', 'expired');
create table "Users" (
    "id" text not null,
    "clerkId" text not null,
    "email" text not null,
    "fullName" text,
    "businessName" text,
    "brandDescription" text,
    "industry" text,
    "onboardingStep" text not null default 'pending',
    "isAdmin" boolean not null default false,
    "loginCount" integer not null,
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null,
    constraint "Users_pkey" primary key ("id")
);
create unique index "Users_clerkId_key" on "Users" ("clerkId");
create unique index "Users_email_key" on "Users" ("email");
create table "UserSubscriptions" (
    "id" text not null,
    "userId" text not null,
    "currentPlan" text,
    "intendedPlan" text,
    "subscriptionStatus" text not null default 'none',
    "trialStatus" "TrialStatus" not null default 'pending',
    "trialStartDate" timestamp(3),
    "trialEndDate" timestamp(3),
    "createdAt" timestamp(3) not null default current_timestamp,
    "updatedAt" timestamp(3) not null,
    constraint "UserSubscriptions_pkey" primary key ("id")
);
create unique index "UserSubscriptions_userId_key" on "UserSubscriptions" ("userId");
alter table "UserSubscriptions" add constraint "UserSubscriptions_userId_fkey" foreign key ("userId") references "Users" ("id")
    on delete restrict on update cascade;
create table "UserBilling" (
    "id" serial primary key,
    "userId" text not null references "Users" ("id"),
    "stripeCustomerId" text,
    "cardLast4" text,
    "cardBrand" text,
    "updatedAt" timestamp(3) not null
);
create table "ScrapingJobs" (
    "id" text primary key,
    "userId" text not null references "Users" ("clerkId"),
    "status" text not null default 'pending',
    "keywords" text[],
    "progress" double precision,
    "startedAt" timestamp(3)
);
create table "Post" ("id" serial primary key, "authorId" text not null references "Users" ("id") on delete cascade, "title" text);

insert into "Users" ("id", "clerkId", "email", "fullName", "onboardingStep", "loginCount", "updatedAt") values
    ('clx1', 'user_1', 'user_1@example.com', 'Ada', 'step-2', 3, '2026-01-01'), ('clx2', 'user_2', 'b@example.com', null, 'finished', 0, '2026-01-01');
insert into "UserSubscriptions" ("id", "userId", "currentPlan", "subscriptionStatus", "trialStatus", "trialEndDate", "updatedAt") values
    ('cls1', 'clx1', 'glow_up', 'active', 'converted', '2025-02-08 10:00', '2026-01-01'),
    ('cls2', 'clx2', repeat('p', 60), 'none', 'pending', null, '2026-01-01');
insert into "UserBilling" ("userId", "stripeCustomerId", "cardLast4", "cardBrand", "updatedAt") values
    ('clx1', 'cus_1', '4242', 'visa', '2026-01-03'), ('clx1', 'cus_1', '4343', 'visa', '2026-01-01'),
    ('clx2', 'cus_1', 'x4242', 'visa', '2026-01-02');
insert into "ScrapingJobs" values ('clj1', 'user_1', 'completed', '{a,b}', 0.5, '2026-01-01 12:00');
insert into "Post" ("authorId", "title") values ('clx1', 'First');
