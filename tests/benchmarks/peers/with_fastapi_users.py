"""fastapi-users with JWT, SQLAlchemy and uvicorn: `python with_fastapi_users.py PORT`, in an empty folder.

https://fastapi-users.github.io/fastapi-users/latest/configuration/overview/
"""

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users.db import SQLAlchemyBaseUserTableUUID, SQLAlchemyUserDatabase
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

SECRET = "benchmark-7f3a9c52e8b14d60a1-benchmark-44c0b9d2"
engine = create_async_engine("sqlite+aiosqlite:///users.db")
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(SQLAlchemyBaseUserTableUUID, Base):
    pass


class Manager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def users_table() -> AsyncIterator[SQLAlchemyUserDatabase]:
    async with new_session() as session:
        yield SQLAlchemyUserDatabase(session, User)


async def manager(table: SQLAlchemyUserDatabase = Depends(users_table)) -> AsyncIterator[Manager]:  # noqa: B008
    yield Manager(table)


@asynccontextmanager
async def tables(_app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


async def health() -> dict[str, str]:
    return {}


def main() -> None:
    bearer = BearerTransport(tokenUrl="auth/login")
    backend = AuthenticationBackend("jwt", bearer, lambda: JWTStrategy(SECRET, lifetime_seconds=3600))
    users = FastAPIUsers[User, uuid.UUID](manager, [backend])
    reading = schemas.BaseUser[uuid.UUID]
    app = FastAPI(lifespan=tables)
    app.include_router(users.get_auth_router(backend), prefix="/auth")
    app.include_router(users.get_register_router(reading, schemas.BaseUserCreate), prefix="/auth")
    app.include_router(users.get_users_router(reading, schemas.BaseUserUpdate), prefix="/users")
    app.get("/health")(health)
    quiet = {"log_level": "warning", "access_log": False}
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), timeout_keep_alive=60, **quiet)


if __name__ == "__main__":
    main()
